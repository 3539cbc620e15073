"""What was measured of the structures of a label map: how large each is, how long, and how bright."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from medseg.labels import Labels
from medseg.measures.shapes import Floats, Shapes, hull, measure_shapes
from medseg.records import Record
from medseg.volume import Array, Geometry, Volume

COLUMNS = ("structure", "voxels", "volume_ml", "surface_mm2", "longest_diameter_mm")
FLAT_COLUMNS = ("structure", "voxels", "area_mm2", "perimeter_mm", "longest_diameter_mm")
AXIAL_COLUMNS = ("axial_diameter_mm", "axial_width_mm")
VALUES = ("mean", "deviation", "minimum", "median", "maximum")

MM3_IN_ML = 1000.0


class ValuesMeasured(Record):
    """What the values of one channel of an image are in a structure.

    Attributes:
        mean: Of all voxels.
        deviation: Their standard deviation.
        minimum: The lowest.
        median: The middle one.
        maximum: The highest.
    """

    mean: float
    deviation: float
    minimum: float
    median: float
    maximum: float


class StructureRow(Record):
    """One structure: a label, or a region of several.

    Attributes:
        name: The structure's.
        voxels: How many it has.
        size: Their volume in ml; in an image of one slice their area in mm², of a picture in pixels.
        boundary: The area of its surface in mm²; in an image of one slice the length of its edge in mm.
        longest_diameter_mm: The largest distance between the centres of two of its voxels, in any direction.
        axial_diameter_mm: The same in one axial slice, of the slice in which it is largest; None in an image of one
            slice.
        axial_width_mm: How far it reaches in that slice at right angles to that diameter; None in an image of one
            slice.
        centroid_mm: Where its voxels lie on average, in RAS mm, of a picture in pixels; None where it is nowhere.
        touches_border: Whether it has a voxel at the border of the image, so that a part of it may not be seen.
        values: Of the image, by channel; () without an image, and where it is nowhere.
    """

    name: str
    voxels: int
    size: float
    boundary: float
    longest_diameter_mm: float
    axial_diameter_mm: float | None = None
    axial_width_mm: float | None = None
    centroid_mm: tuple[float, float, float] | None = None
    touches_border: bool = False
    values: tuple[ValuesMeasured, ...] = ()


class StructureMeasures(Record):
    """What was measured of the structures of one label map, in the order of its labels and regions.

    Attributes:
        channels: Names of the image's channels; () without an image.
        units: Of their values, such as "HU"; empty where nothing says it.
        is_flat: Whether the image has one slice.
        is_picture: Whether it is one whose pixels have no size in mm: these are its unit then.
        rows: One a structure.
    """

    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    is_flat: bool = False
    is_picture: bool = False
    rows: tuple[StructureRow, ...]

    @property
    def columns(self) -> list[str]:
        """The names of the columns of the CSV."""
        named = list(FLAT_COLUMNS) if self.is_flat else [*COLUMNS, *AXIAL_COLUMNS]
        places = ["x_mm", "y_mm"] if self.is_flat else ["x_mm", "y_mm", "z_mm"]
        named += [*places, "touches_border"]
        if self.is_picture:
            named = [re.sub("_mm2?$", "_pixels", name) for name in named]
        units = [f"_{unit}" if unit else "" for unit in self.units]
        channels = zip(self.channels, units, strict=True)
        return [*named, *(f"{what}_{channel}{unit}" for channel, unit in channels for what in VALUES)]

    def cells(self) -> list[dict[str, Any]]:
        """Returns a row of the CSV for each structure, by column."""
        return [dict(zip(self.columns, self._cells(row), strict=True)) for row in self.rows]

    def _cells(self, row: StructureRow) -> list[Any]:
        n = 2 if self.is_flat else 3
        axial = [] if self.is_flat else [row.axial_diameter_mm, row.axial_width_mm]
        where = [None] * n if row.centroid_mm is None else row.centroid_mm[:n]
        values = [getattr(each, what) for each in row.values for what in VALUES]
        values += [None] * (len(VALUES) * len(self.channels) - len(values))
        cells = [row.voxels, row.size, row.boundary, row.longest_diameter_mm, *axial, *where]
        shown = [f"{cell:.6g}" if isinstance(cell, float) else cell for cell in [*cells, int(row.touches_border)]]
        return [row.name, *shown, *(None if value is None else f"{value:.6g}" for value in values)]


class _Layer(NamedTuple):
    """Structures that do not overlap, and what was measured of them.

    Attributes:
        numbers: ``(x, y, z)``, from 1: the place of each voxel's structure in ``structures``.
        structures: Their places among all.
        shapes: What was measured.
    """

    numbers: Array
    structures: tuple[int, ...]
    shapes: Shapes


def measure_structures(
    label_map: Array,
    labels: Labels,
    geometry: Geometry,
    image: Volume | None = None,
    channels: Sequence[str] = (),
    units: Sequence[str] = (),
) -> StructureMeasures:
    """Measures each label and region of a label map.

    Volumes are those of the voxels; what else is measured stands in ``medseg.measures.shapes.measure_shapes``. The
    diameter in an axial slice and the width at right angles to it are those of RECIST, of all parts of a structure
    together.

    Args:
        label_map: ``(x, y, z)``, in the values of ``labels``.
        labels: Labels and regions.
        geometry: The grid.
        image: Whose values are measured, on the same grid; None measures none.
        channels: Names of its channels.
        units: Of the values of each channel, such as "HU".

    Source: Eisenhauer et al. 2009, New response evaluation criteria in solid tumours (RECIST 1.1), Eur J Cancer.

    Example:
        >>> import numpy as np
        >>> from medseg.labels import Labels
        >>> from medseg.measures.structures import measure_structures
        >>> from medseg.volume import Geometry, Volume
        >>> label_map = np.zeros((20, 20, 20), np.uint8)
        >>> label_map[5:15, 5:10, 5:10] = 3
        >>> grid = Geometry(label_map.shape, np.diag([2, 2, 2, 1]))
        >>> image = Volume(np.full((1, 20, 20, 20), 40.0), grid)
        >>> measured = measure_structures(label_map, Labels.from_names({"liver": 3}), grid, image, ["CT"], ["HU"])
        >>> row = measured.rows[0]
        >>> row.size, round(row.axial_diameter_mm, 2), round(row.axial_width_mm, 2), row.values[0].mean
        (2.0, 19.7, 14.62, 40.0)
    """
    from scipy.ndimage import find_objects  # takes long to import

    encoded = labels.encode(label_map)
    layers = [_layer(encoded, labels, structures, geometry, image) for structures in _without_overlap(labels)]
    rows: dict[int, StructureRow] = {}
    is_flat = label_map.shape[2] == 1
    for layer in layers:
        values = _values(layer, image)
        boxes = find_objects(layer.numbers, len(layer.structures))  # None of what is nowhere
        for i, place in enumerate(layer.structures):
            mask = layer.numbers[boxes[i] or (slice(0, 0),) * 3] == i + 1
            axial = None if is_flat else _axial(mask, geometry)
            rows[place] = _row(labels.structures[place].name, layer.shapes, i, axial, values[i], is_flat)
    named = () if image is None else tuple(channels) or tuple(f"channel_{i}" for i in range(len(image.array)))
    return StructureMeasures(
        channels=named,
        units=tuple(units) or ("",) * len(named),
        is_flat=is_flat,
        is_picture=is_flat and np.array_equal(geometry.affine, np.eye(4)),
        rows=tuple(rows[place] for place in sorted(rows)),
    )


def _without_overlap(labels: Labels) -> list[tuple[int, ...]]:
    """Returns the structures by their places among all, in as few groups as it takes that none of them overlap."""
    groups: list[tuple[set[int], list[int]]] = []
    for place, structure in enumerate(labels.structures):
        values = set(structure.values)
        taken, members = next((group for group in groups if not group[0] & values), (None, None))
        if taken is None or members is None:
            groups.append((values, [place]))
        else:
            taken |= values
            members.append(place)
    return [tuple(members) for _, members in groups]


def _layer(
    encoded: Array, labels: Labels, structures: tuple[int, ...], geometry: Geometry, image: Volume | None
) -> _Layer:
    number_of = np.zeros(len(labels.values) + 1, np.min_scalar_type(len(structures)))
    for number, place in enumerate(structures, start=1):
        for value in labels.structures[place].values:
            number_of[labels.values.index(value) + 1] = number
    known = np.where(encoded < len(number_of), encoded, 0)  # what nobody annotated is no structure
    numbers: Array = number_of[known]
    return _Layer(numbers, structures, measure_shapes(numbers, len(structures), geometry, image))


def _row(
    name: str,
    shapes: Shapes,
    i: int,
    axial: tuple[float, float] | None,
    values: tuple[ValuesMeasured, ...],
    is_flat: bool,
) -> StructureRow:
    x, y, z = shapes.centroids_mm[i].tolist()
    return StructureRow(
        name=name,
        voxels=int(shapes.voxels[i]),
        size=float(shapes.sizes[i]) / (1 if is_flat else MM3_IN_ML),
        boundary=float(shapes.boundaries[i]),
        longest_diameter_mm=float(shapes.longest_diameters_mm[i]),
        axial_diameter_mm=None if axial is None else axial[0],
        axial_width_mm=None if axial is None else axial[1],
        centroid_mm=(x, y, z) if shapes.voxels[i] else None,
        touches_border=bool(shapes.at_border[i]),
        values=values,
    )


def _values(layer: _Layer, image: Volume | None) -> list[tuple[ValuesMeasured, ...]]:
    """Returns what the values are in each structure of a layer, by channel."""
    n = len(layer.structures)
    if image is None:
        return [()] * n
    inside = layer.numbers > 0
    numbers = layer.numbers[inside]
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(layer.shapes.voxels)[:-1]
    found: list[list[ValuesMeasured]] = [[] for _ in range(n)]
    for i, channel in enumerate(image.array):
        for place, values in enumerate(np.split(channel[inside][order], ends)):
            if len(values):
                found[place].append(
                    ValuesMeasured(
                        mean=float(layer.shapes.means[i, place]),
                        deviation=float(layer.shapes.deviations[i, place]),
                        minimum=float(values.min()),
                        median=float(np.median(values)),
                        maximum=float(values.max()),
                    )
                )
    return [tuple(each) for each in found]


def _axial(mask: Array, geometry: Geometry) -> tuple[float, float]:
    """Returns the longest diameter in an axial slice, and the width at right angles to it; (0, 0) of nothing.

    Axial are the slices across the array axis that goes most along the body.
    """
    from scipy.spatial.distance import pdist  # takes long to import

    along = int(np.abs(geometry.affine[2, :3] / geometry.spacing).argmax())
    across = [axis for axis in range(3) if axis != along]
    sizes = np.array(geometry.spacing)[across]
    longest, width = 0.0, 0.0
    for i in np.flatnonzero(mask.any(axis=tuple(across))):
        points = hull(np.argwhere(mask.take(i, axis=along)) * sizes)
        distances = pdist(points)
        if distances.max(initial=0) > longest:
            longest, width = float(distances.max()), _width(points, int(distances.argmax()))
    return longest, width


def _width(points: Floats, pair: int) -> float:
    """Returns how far points reach at right angles to the line through a pair of them, as ``pdist`` counts pairs."""
    first, second = (int(each[pair]) for each in np.triu_indices(len(points), 1))
    line = points[second] - points[first]
    normal = np.array([-line[1], line[0]]) / np.linalg.norm(line)
    return float(np.ptp(points @ normal))
