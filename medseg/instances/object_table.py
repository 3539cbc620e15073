"""The table of the objects of an image: where each lies, how large it is, and how bright."""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError, SphericalVoronoi
from scipy.spatial.distance import pdist

from medseg.instances.object_map import ObjectMap
from medseg.labels import Labels
from medseg.records import Record
from medseg.table import table_text
from medseg.volume import Array, Geometry, Spacing3, Volume

Floats = npt.NDArray[np.float64]

HULL_FROM = 64  # points: of fewer all distances are looked at

COLUMNS = ("id", "label", "x_mm", "y_mm", "z_mm", "voxels", "volume_mm3", "surface_mm2", "longest_diameter_mm")
FLAT_COLUMNS = ("id", "label", "x_mm", "y_mm", "voxels", "area_mm2", "perimeter_mm", "longest_diameter_mm")
MORE_COLUMNS = ("touches_border", "confidence")


class ObjectRow(Record):
    """One object of an image.

    Attributes:
        id: Its number in the object map.
        label: The name of its label.
        centroid_mm: Where its voxels lie on average, in RAS mm; of a picture in pixels.
        voxels: How many it has.
        size: Their volume in mm³; in an image of one slice their area in mm², of a picture in pixels.
        boundary: The area of its surface in mm²; in an image of one slice the length of its edge in mm.
        longest_diameter_mm: The largest distance between the centres of two of its voxels.
        touches_border: Whether it has a voxel at the border of the image, so that a part of it may not be seen.
        confidence: How sure the network is of it, from 0 to 1; None where nobody says it.
        mean: Of the values of the image in it, by channel.
        deviation: Their standard deviation, by channel.
    """

    id: int
    label: str
    centroid_mm: tuple[float, float, float]
    voxels: int
    size: float
    boundary: float
    longest_diameter_mm: float
    touches_border: bool
    confidence: float | None = None
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


class ObjectMeasures(Record):
    """What was measured of the objects of an image, in the order of their numbers.

    Attributes:
        channels: Names of the image's channels; () without an image.
        is_flat: Whether the image has one slice.
        is_picture: Whether it is one whose pixels have no size in mm: these are its unit then.
        rows: One an object.
    """

    channels: tuple[str, ...]
    is_flat: bool
    is_picture: bool
    rows: tuple[ObjectRow, ...]

    @property
    def columns(self) -> list[str]:
        """The names of the columns of the CSV."""
        named = list(FLAT_COLUMNS if self.is_flat else COLUMNS)
        if self.is_picture:
            named = [re.sub("_mm2?$", "_pixels", name) for name in named]
        values = [f"{what}_{channel}" for channel in self.channels for what in ("mean", "deviation")]
        return [*named, *MORE_COLUMNS, *values]

    def as_csv(self) -> str:
        """Returns the table as CSV: a row an object."""
        return table_text(self.columns, map(self._cells, self.rows))

    def _cells(self, row: ObjectRow) -> dict[str, Any]:
        values = [each for pair in zip(row.mean, row.deviation, strict=True) for each in pair]
        where = row.centroid_mm[:2] if self.is_flat else row.centroid_mm
        cells = [row.id, row.label, *where, row.voxels, row.size, row.boundary, row.longest_diameter_mm]
        cells += [int(row.touches_border), row.confidence, *values]
        shown = [f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells]
        return dict(zip(self.columns, shown, strict=True))


def object_table(
    objects: ObjectMap,
    labels: Labels,
    geometry: Geometry,
    image: Volume | None = None,
    channels: Sequence[str] = (),
    confidences: Sequence[float] | None = None,
) -> ObjectMeasures:
    """Returns the table of the objects of an image.

    Surfaces are measured by Crofton's formula: by how often lines of 13 directions (4 in an image of one slice) pass
    from an object into something else, each direction by the part of all directions that are nearest to it.

    Args:
        objects: On the grid of the image.
        labels: Names of the labels.
        geometry: The grid.
        image: Whose values are measured; None measures none.
        channels: Names of its channels.
        confidences: Of each object, from 0 to 1; None where nobody says it.

    Source: Lehmann and Legland 2012, Efficient N-dimensional surface estimation using Crofton formula and run-length
        encoding, Insight Journal.

    Example:
        >>> import numpy as np
        >>> from medseg.instances.object_map import numbered
        >>> from medseg.instances.object_table import object_table
        >>> from medseg.labels import Labels
        >>> from medseg.volume import Geometry
        >>> array = np.zeros((9, 9, 9), np.uint8)
        >>> array[2:5, 2:5, 2:5] = 7
        >>> grid = Geometry(array.shape, np.diag([1, 1, 2, 1]))
        >>> (row,) = object_table(numbered(array), Labels.from_names({"cell": 1}), grid).rows
        >>> row.centroid_mm, row.size, round(row.longest_diameter_mm, 3), row.touches_border
        ((3.0, 3.0, 6.0), 54.0, 4.899, False)
    """
    array, n, spacing = objects.array, len(objects), geometry.spacing
    is_flat = array.shape[2] == 1
    statistics = cc3d.statistics(array.astype(np.uint32))
    counts = np.asarray(statistics["voxel_counts"])[1 : n + 1]
    centroids = geometry.world(np.asarray(statistics["centroids"])[1 : n + 1]) if n else np.zeros((0, 3))
    boundaries, diameters = _boundaries(array, n, spacing), _diameters(array, n, spacing)
    borders = _at_border(array, n)
    means, deviations = _values(array, n, counts, image)
    names = dict(zip(labels.values, labels.names, strict=True))
    size_of_voxel = spacing[0] * spacing[1] * (1 if is_flat else spacing[2])
    rows = (
        ObjectRow(
            id=i + 1,
            label=names[int(objects.classes[i])],
            centroid_mm=(float(centroids[i][0]), float(centroids[i][1]), float(centroids[i][2])),
            voxels=int(counts[i]),
            size=float(counts[i] * size_of_voxel),
            boundary=float(boundaries[i]),
            longest_diameter_mm=float(diameters[i]),
            touches_border=bool(borders[i]),
            confidence=None if confidences is None else float(confidences[i]),
            mean=tuple(means[:, i].tolist()),
            deviation=tuple(deviations[:, i].tolist()),
        )
        for i in range(n)
    )
    named = () if image is None else tuple(channels) or tuple(f"channel_{i}" for i in range(len(image.array)))
    is_picture = is_flat and np.array_equal(geometry.affine, np.eye(4))
    return ObjectMeasures(channels=named, is_flat=is_flat, is_picture=is_picture, rows=tuple(rows))


def _directions(is_flat: bool) -> list[tuple[int, int, int]]:
    """Returns the steps to neighbours, one of each opposite pair."""
    steps = product((-1, 0, 1), (-1, 0, 1), (0,) if is_flat else (-1, 0, 1))
    return [(x, y, z) for x, y, z in steps if (x, y, z) > (0, 0, 0)]


def _weights(steps: Sequence[tuple[int, int, int]], spacing: Spacing3, is_flat: bool) -> Floats:
    """Returns the part of all directions that are nearest to each of the steps, or to its opposite."""
    vectors = np.array(steps) * spacing
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if is_flat:
        angles = np.sort(np.arctan2(units[:, 1], units[:, 0]) % np.pi)
        order = np.argsort(np.arctan2(units[:, 1], units[:, 0]) % np.pi)
        gaps = np.diff(angles, append=angles[0] + np.pi)
        weights = np.empty(len(steps))
        weights[order] = (gaps + np.roll(gaps, 1)) / 2 / np.pi
        return weights
    areas = SphericalVoronoi(np.concatenate([units, -units])).calculate_areas()
    both: Floats = (areas[: len(steps)] + areas[len(steps) :]) / areas.sum()
    return both


def _boundaries(array: Array, n: int, spacing: Spacing3) -> Floats:
    """Returns the surface, or in one slice the length of the edge, of each object by Crofton's formula."""
    is_flat = array.shape[2] == 1
    steps = _directions(is_flat)
    sizes = spacing[:2] if is_flat else spacing
    total = np.zeros(n)
    for step, weight in zip(steps, _weights(steps, spacing, is_flat), strict=True):
        between = float(np.prod(sizes) / np.linalg.norm(np.multiply(step, spacing)))  # of lines in this direction
        total += weight * between * _passages(array, n, step)
    return total * (np.pi / 2 if is_flat else 2)


def _passages(array: Array, n: int, step: tuple[int, int, int]) -> Array:
    """Returns how often lines in one direction pass between each object and something else."""
    here = tuple(slice(max(-each, 0), length - max(each, 0)) for each, length in zip(step, array.shape, strict=True))
    there = tuple(slice(max(each, 0), length - max(-each, 0)) for each, length in zip(step, array.shape, strict=True))
    one, other = array[here], array[there]
    differs = one != other
    passages = sum(np.bincount(each[differs], minlength=n + 1) for each in (one, other))
    for kept in (here, there):  # lines that leave the image
        outside = np.ones(array.shape, bool)
        outside[kept] = False
        passages = passages + np.bincount(array[outside], minlength=n + 1)
    found: Array = np.asarray(passages)[1:]
    return found


def _surface_voxels(array: Array) -> Iterator[tuple[int, Array]]:
    """Yields each object with the places ``(n, 3)`` of its voxels that have something else beside them."""
    inner = array > 0
    for axis in range(3):
        if array.shape[axis] == 1:
            continue
        same = np.diff(array, axis=axis) == 0
        ends = [(0, 0)] * 3
        ends[axis] = (1, 0)
        inner &= np.pad(same, ends)
        ends[axis] = (0, 1)
        inner &= np.pad(same, ends)
    places = np.argwhere((array > 0) & ~inner)
    numbers = array[tuple(places.T)]
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    if len(found):
        yield from zip(found.tolist(), np.split(places[order], starts[1:]), strict=True)


def _diameters(array: Array, n: int, spacing: Spacing3) -> Floats:
    diameters = np.zeros(n)
    for number, places in _surface_voxels(array):
        diameters[number - 1] = pdist(_hull(places * spacing)).max(initial=0)
    return diameters


def _hull(points: Floats) -> Floats:
    """Returns the corners of the convex hull of points, or of the plane or line that they lie in."""
    if len(points) < HULL_FROM:
        return points
    spread = points - points.mean(axis=0)
    _, strengths, axes = np.linalg.svd(spread, full_matrices=False)
    kept = strengths > 1e-9 * strengths[0]
    if kept.sum() == 1:
        along = spread @ axes[0]
        return points[[along.argmin(), along.argmax()]]
    try:
        return points[ConvexHull(spread @ axes[kept].T).vertices]
    except QhullError:
        return points


def _at_border(array: Array, n: int) -> Array:
    touches = np.zeros(n + 1, bool)
    for axis in range(3):
        if array.shape[axis] > 1:
            for end in (0, -1):
                touches[np.unique(array.take(end, axis))] = True
    return touches[1:]


def _values(array: Array, n: int, counts: Array, image: Volume | None) -> tuple[Floats, Floats]:
    """Returns mean and deviation of the values in each object, ``(channel, object)``."""
    if image is None:
        return np.zeros((0, n)), np.zeros((0, n))
    inside = array > 0
    numbers = array[inside]
    means, deviations = [], []
    for channel in image.array:
        values = channel[inside].astype(np.float64)
        mean = np.bincount(numbers, values, n + 1)[1:] / counts
        squares = np.bincount(numbers, (values - np.append(0, mean)[numbers]) ** 2, n + 1)[1:] / counts
        means.append(mean)
        deviations.append(np.sqrt(squares))
    return np.array(means), np.array(deviations)
