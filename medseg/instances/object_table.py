"""The table of the objects of an image: where each lies, how large it is, and how bright."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg.instances.object_map import ObjectMap
from medseg.labels import Labels
from medseg.measures.shapes import measure_shapes
from medseg.records import Record
from medseg.table import table_text
from medseg.volume import Geometry, Volume

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

    What is measured, and how, stands in ``medseg.measures.shapes.measure_shapes``.

    Args:
        objects: On the grid of the image.
        labels: Names of the labels.
        geometry: The grid.
        image: Whose values are measured; None measures none.
        channels: Names of its channels.
        confidences: Of each object, from 0 to 1; None where nobody says it.

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
    shapes = measure_shapes(objects.array, len(objects), geometry, image)
    names = dict(zip(labels.values, labels.names, strict=True))
    rows = (
        ObjectRow(
            id=i + 1,
            label=names[int(objects.classes[i])],
            centroid_mm=(
                float(shapes.centroids_mm[i][0]),
                float(shapes.centroids_mm[i][1]),
                float(shapes.centroids_mm[i][2]),
            ),
            voxels=int(shapes.voxels[i]),
            size=float(shapes.sizes[i]),
            boundary=float(shapes.boundaries[i]),
            longest_diameter_mm=float(shapes.longest_diameters_mm[i]),
            touches_border=bool(shapes.at_border[i]),
            confidence=None if confidences is None else float(confidences[i]),
            mean=tuple(shapes.means[:, i].tolist()),
            deviation=tuple(shapes.deviations[:, i].tolist()),
        )
        for i in range(len(objects))
    )
    named = () if image is None else tuple(channels) or tuple(f"channel_{i}" for i in range(len(image.array)))
    is_flat = objects.array.shape[2] == 1
    is_picture = is_flat and np.array_equal(geometry.affine, np.eye(4))
    return ObjectMeasures(channels=named, is_flat=is_flat, is_picture=is_picture, rows=tuple(rows))
