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
from pydicom import Dataset

from medseg.errors import GeometryError
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry

Vector = npt.NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Of two equally near voxels the higher one is taken, whatever way the last digits were rounded.
NUDGE = 1e-6

# Slices closer than this are at one position.
SAME_POSITION_MM = 1e-3

# Direction cosines and relative spacings that differ by less are rounded differently, not different.
SAME_PLANE_TOLERANCE = 1e-4

NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")


@dataclass(frozen=True)
class Plane:
    """One slice: ``position`` of its first voxel (LPS mm), unit vectors along a row and down a column."""

    path: Path
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]  # mm between columns, mm between rows: array axes x, y
    along_row: Vector
    down_column: Vector
    position: Vector
    thickness: float | None  # mm; the distance to a next slice, where there is no next slice
    frame: int | None = None  # from 0, in a file with several

    @cached_property
    def normal(self) -> Vector:
        normal = np.cross(self.along_row, self.down_column)
        return normal / np.linalg.norm(normal)

    @property
    def geometry(self) -> Geometry:
        """The plane as a grid (columns, rows, 1) in RAS."""
        affine = np.eye(4)
        affine[:3, 0] = self.along_row * self.pixel_spacing[0]
        affine[:3, 1] = self.down_column * self.pixel_spacing[1]
        affine[:3, 2] = self.normal * (self.thickness or 1.0)
        affine[:3, 3] = self.position
        return Geometry((self.columns, self.rows, 1), LPS_TO_RAS @ affine)

    def is_parallel_to(self, other: "Plane") -> bool:
        """Whether both can be slices of one grid."""
        if (self.rows, self.columns) != (other.rows, other.columns):
            return False
        ours, theirs = np.array(self.pixel_spacing), np.array(other.pixel_spacing)
        turned = np.array([self.along_row - other.along_row, self.down_column - other.down_column])
        same_spacing = (np.abs(ours - theirs) <= SAME_PLANE_TOLERANCE * theirs).all()
        return bool(same_spacing and np.abs(turned).max() <= SAME_PLANE_TOLERANCE)


def plane_of(header: Dataset, path: Path, frame: int | None = None) -> Plane:
    """From the header of one slice. Raises ``GeometryError`` when tags are missing or make no plane."""
    missing = [name for name in NEEDED if header.get(name) in (None, "")]
    if missing:
        raise GeometryError(f"{path}: has no {', '.join(missing)}, so its place in the patient is unknown")
    try:
        orientation = np.array([float(v) for v in header.ImageOrientationPatient])
        position = np.array([float(v) for v in header.ImagePositionPatient])
        between_rows, between_columns = (float(v) for v in header.PixelSpacing)
        rows, columns = int(header.Rows), int(header.Columns)
        thickness = _positive(header, "SpacingBetweenSlices") or _positive(header, "SliceThickness")
    except (TypeError, ValueError) as error:
        raise GeometryError(f"{path}: position, orientation or spacing cannot be read ({error})") from error
    lengths = np.linalg.norm(orientation.reshape(-1, 3), axis=1)
    if orientation.shape != (6,) or position.shape != (3,) or min(*lengths, between_rows, between_columns) <= 0:
        raise GeometryError(
            f"{path}: ImagePositionPatient, ImageOrientationPatient and PixelSpacing make no plane: "
            f"{position.tolist()}, {orientation.tolist()}, {[between_rows, between_columns]}"
        )
    along_row, down_column = orientation[:3] / lengths[0], orientation[3:] / lengths[1]
    if not abs(along_row @ down_column) <= SHEAR_TOLERANCE:
        raise GeometryError(f"{path}: rows and columns are not at a right angle: {orientation.tolist()}")
    spacing = (between_columns, between_rows)
    return Plane(path, rows, columns, spacing, along_row, down_column, position, thickness, frame)


def in_order(planes: Sequence[Plane]) -> list[Plane]:
    """Sorted by position along the normal; slices at one position by file name."""
    normal = planes[0].normal
    return sorted(planes, key=lambda plane: (round(float(plane.position @ normal), 4), plane.path, plane.frame or 0))


def on_planes(label_map: Array, geometry: Geometry, planes: Sequence[Plane]) -> Array:
    """A label map (x, y, z) on the slices of its source: ``(plane, row, column)``.

    Each pixel gets the label of the voxel that its centre lies nearest to; 0 outside of the grid. Slices of an even
    upright series get exactly the slices of the label map.
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


def _positive(header: Dataset, name: str) -> float | None:
    value = header.get(name)
    return float(value) if value not in (None, "") and float(value) > 0 else None
