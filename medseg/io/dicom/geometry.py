"""Where the slices of a DICOM series lie.

DICOM gives each slice a position and an orientation in LPS mm (PS3.3, C.7.6.2.1.1). Nothing here reads
voxels, and nothing outside ``medseg.io`` sees LPS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medseg.errors import GeometryError
from medseg.io.dicom.header import Header
from medseg.io.dicom.projection import PROJECTION_KEYWORDS, is_projection, projected_spacing
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry

IMAGE_AXES = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # along rows, down columns

Vector = npt.NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Of two equally near voxels the higher one is taken, whatever way the last digits were rounded.
NUDGE = 1e-6

# Slices closer than this are at one position.
SAME_POSITION_MM = 1e-3

# Direction cosines and relative spacings that differ by less are rounded differently, not different.
SAME_PLANE_TOLERANCE = 1e-4

# Direction cosines are rounded to two decimals at worst. Where they are longer, programs make different things of it.
UNIT_TOLERANCE = 0.02

# No place in a patient, and no pixel, is larger; no pixel of an image of one is smaller.
LARGEST_MM, SMALLEST_MM = 1e6, 1e-6

NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
PLACE_KEYWORDS = (*NEEDED, *PROJECTION_KEYWORDS, "SliceThickness", "SpacingBetweenSlices")


@dataclass(frozen=True)
class SlicePlane:
    """The place of one slice.

    Attributes:
        path: Of its file.
        rows: Pixels down a column.
        columns: Pixels along a row.
        pixel_spacing: mm between columns, and mm between rows: array axes x, y.
        along_row: Unit vector, LPS.
        down_column: Unit vector, LPS.
        position: Of the centre of its first pixel, LPS mm.
        thickness: mm; the distance to a next slice, where there is no next slice. None where nothing says it.
        frame: Its number, from 0, in a file with several; else None.
        is_projection: Whether it has no place in the patient, so that nothing lies beside it.
    """

    path: Path
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]
    along_row: Vector
    down_column: Vector
    position: Vector
    thickness: float | None
    frame: int | None = None
    is_projection: bool = False

    @cached_property
    def normal(self) -> Vector:
        """The unit vector across the plane, LPS."""
        normal = np.cross(self.along_row, self.down_column)
        return normal / np.linalg.norm(normal)

    @property
    def geometry(self) -> Geometry:
        """The plane as a grid ``(columns, rows, 1)``, in RAS mm."""
        affine = np.eye(4)
        affine[:3, 0] = self.along_row * self.pixel_spacing[0]
        affine[:3, 1] = self.down_column * self.pixel_spacing[1]
        affine[:3, 2] = self.normal * (self.thickness or 1.0)
        affine[:3, 3] = self.position
        return Geometry((self.columns, self.rows, 1), LPS_TO_RAS @ affine)

    def is_parallel_to(self, other: "SlicePlane") -> bool:
        """Says whether both can be slices of one grid: of one size, spacing and orientation."""
        if (self.rows, self.columns) != (other.rows, other.columns):
            return False
        ours, theirs = np.array(self.pixel_spacing), np.array(other.pixel_spacing)
        turned = np.array([self.along_row - other.along_row, self.down_column - other.down_column])
        same_spacing = (np.abs(ours - theirs) <= SAME_PLANE_TOLERANCE * theirs).all()
        return bool(same_spacing and np.abs(turned).max() <= SAME_PLANE_TOLERANCE)


def plane_of(header: Header) -> SlicePlane:
    """Returns the plane that the header of one slice says.

    Raises:
        GeometryError: Tags are missing, or make no plane.
        SourceError: A tag cannot be read.
    """
    path, projection = header.path, is_projection(header)
    rows, columns = header.whole("Rows"), header.whole("Columns")
    position = header.numbers("ImagePositionPatient", 3) if not projection else (0.0, 0.0, 0.0)
    orientation = header.numbers("ImageOrientationPatient", 6) if not projection else IMAGE_AXES
    spacing = header.numbers("PixelSpacing", 2) if not projection else projected_spacing(header) or (1.0, 1.0)
    found = dict(zip(NEEDED, (position, orientation, spacing, rows, columns), strict=True))
    if position is None or orientation is None or spacing is None or rows is None or columns is None:
        missing = ", ".join(name for name, value in found.items() if value is None)
        raise GeometryError(f"{path}: has no {missing}, so its place in the patient is unknown")
    along_row, down_column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(along_row), np.linalg.norm(down_column)
    is_turned = max(abs(length - 1) for length in lengths) <= UNIT_TOLERANCE
    is_placed = max(np.abs(position)) < LARGEST_MM and min(spacing) > SMALLEST_MM and max(spacing) < LARGEST_MM
    if not (is_turned and is_placed and min(rows, columns) > 0):
        raise GeometryError(
            f"{path}: ImagePositionPatient, ImageOrientationPatient and PixelSpacing make no plane: "
            f"{list(position)}, {list(orientation)}, {list(spacing)}"
        )
    along_row, down_column = along_row / lengths[0], down_column / lengths[1]
    if abs(along_row @ down_column) > SHEAR_TOLERANCE:
        raise GeometryError(f"{path}: rows and columns are not at a right angle: {list(orientation)}")
    return SlicePlane(
        path, rows, columns, (spacing[1], spacing[0]), along_row, down_column, np.array(position),
        thickness=None if projection else _thickness(header),
        frame=header.frame,
        is_projection=projection,
    )  # fmt: skip


def planes_in_order(planes: Sequence[SlicePlane]) -> list[SlicePlane]:
    """Returns planes sorted by position along the normal; those at one position by file name."""
    normal = planes[0].normal
    return sorted(planes, key=lambda plane: (round(float(plane.position @ normal), 4), plane.path, plane.frame or 0))


def on_planes(label_map: Array, geometry: Geometry, planes: Sequence[SlicePlane]) -> Array:
    """Returns a label map on the slices of its source.

    Each pixel gets the label of the voxel that its centre lies nearest to; 0 outside of the grid. Slices of an even
    upright series get exactly the slices of the label map.

    Args:
        label_map: ``(x, y, z)``.
        geometry: Its grid, in RAS mm.
        planes: The slices, all of one size.

    Returns:
        ``(plane, row, column)``.
    """
    to_index = np.linalg.inv(geometry.affine)
    result = np.zeros((len(planes), planes[0].rows, planes[0].columns), dtype=label_map.dtype)
    for slice_, plane in zip(result, planes, strict=True):
        affine = to_index @ plane.geometry.affine
        along_row = affine[:3, 0, None] * np.arange(plane.columns)
        down_column = affine[:3, 1, None] * np.arange(plane.rows) + affine[:3, 3, None]
        x, y, z = np.floor(down_column[:, :, None] + along_row[:, None] + (0.5 + NUDGE)).astype(np.int32)
        nx, ny, nz = geometry.shape
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        slice_[inside] = label_map[x[inside], y[inside], z[inside]]
    return result


def _thickness(header: Header) -> float | None:
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        value = header.number_if_any(name)
        if value is not None and SMALLEST_MM < value < LARGEST_MM:
            return value
    return None
