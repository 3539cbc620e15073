"""The one grid that the slices of a DICOM volume are read on.

Nearly all series are even and upright: their grid is that of the slices, and voxels are exactly those of the files.
The rest is resampled, linearly, by these rules, and a note says so:

* **tilted gantry**: each slice is moved within its plane to where the upright grid has it; the grid is as wide as all
  slices together, and what no slice covers gets the lowest value of the volume;
* **uneven distances, missing slices**: the grid has the usual (median) distance from the first slice to the last, and
  slices between two others are interpolated. A gap of more than four usual distances is refused, and so is a series of
  which a fifth or more is missing: nobody knows what is in it.

The way back, for masks in DICOM, is ``geometry.on_planes``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.errors import GeometryError
from medseg.io.dicom.geometry import LPS_TO_RAS, SAME_POSITION_MM, SlicePlane, Vector
from medseg.volume import Array, Geometry, Shape3

# No slice may lie further than this part of the slice distance from its place in an even grid: headers are rounded,
# and a tenth of a voxel is less than a contour is drawn to.
PLACE_TOLERANCE = 0.1

# Pixels that slices may be shifted sideways without being resampled: orientations are rounded, and over hundreds of
# slices that adds up, whereas half a degree of tilt over ten centimetres moves a slice by a millimetre.
SHIFT_TOLERANCE = 0.25

# Usual distances in a gap that is bridged: three slices are missing.
WIDEST_GAP = 4

# A part of the slices that may not be missing.
MOST_MISSING = 1 / 5


@dataclass(frozen=True)
class Stack:
    """Parallel slices in order of position, and the grid that they are read on.

    Attributes:
        planes: The slices.
        geometry: The grid ``(columns, rows, slices)``, in RAS mm.
        shifts: ``(slice, 2)``: pixels along x and y by which each slice lies off the grid's first corner.
        heights: ``(slice,)``: where each slice lies, in slices of the grid.
        notes: What is resampled, and why.
    """

    planes: tuple[SlicePlane, ...]
    geometry: Geometry
    shifts: Vector
    heights: Vector
    notes: tuple[str, ...] = ()

    @property
    def is_grid(self) -> bool:
        """Whether the slices lie on the grid as they are."""
        return not self.shifts.any() and np.array_equal(self.heights, np.arange(self.geometry.shape[2]))

    def resampled(self, values: Array) -> Array:
        """Returns the values of the planes on the grid; integers stay integers, rounded.

        Args:
            values: ``(slice, row, column)``.

        Returns:
            ``(z, y, x)``; the very array where the slices lie on the grid as they are.
        """
        if self.is_grid:
            return values
        columns, rows, n_slices = self.geometry.shape
        result = np.empty((n_slices, rows, columns), dtype=values.dtype)
        fill = values.min()
        for z, slice_ in enumerate(result):
            above = min(int(np.searchsorted(self.heights, z)), len(values) - 1)
            below = max(above - 1, 0)
            gap = self.heights[above] - self.heights[below]
            weight = (z - self.heights[below]) / gap if gap > 0 else 1.0
            mixed = weight * self._placed(values, above, fill)
            if weight < 1:
                mixed += (1 - weight) * self._placed(values, below, fill)
            slice_[:] = np.rint(mixed) if values.dtype.kind in "iu" else mixed
        return result

    def _placed(self, values: Array, i: int, fill: float) -> Array:
        """Returns one slice on the rows and columns of the grid."""
        from scipy.ndimage import shift  # takes long to import

        columns, rows, _ = self.geometry.shape
        placed = np.full((rows, columns), fill, dtype=np.float64)
        placed[: values.shape[1], : values.shape[2]] = values[i]
        if not self.shifts[i].any():
            return placed
        shifted: Array = shift(placed, self.shifts[i][::-1], order=1, mode="grid-constant", cval=fill, prefilter=False)
        return shifted


def stack_of(planes: Sequence[SlicePlane], where: Path) -> Stack:
    """Returns the grid that slices are read on.

    Args:
        planes: In order of position.
        where: What they belong to, for messages.

    Raises:
        GeometryError: The planes are not parallel, several lie at one position, or a gap between them is too wide.
    """
    first = planes[0]
    strangers = [plane for plane in planes if not first.is_parallel_to(plane)]
    if strangers:
        raise GeometryError(
            f"{where}: {strangers[0].path.name} has another size, spacing or orientation than "
            f"{first.path.name}; keep the slices of one grid"
        )
    offsets = np.array([plane.position - first.position for plane in planes])
    along = offsets @ first.normal
    step, heights, notes = _heights(planes, along, where)
    sideways = offsets - np.outer(along, first.normal)
    shifts, corner, size, more_notes = _shifts(first, sideways, along)
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.pixel_spacing[0]
    affine[:3, 1] = first.down_column * first.pixel_spacing[1]
    affine[:3, 2] = first.normal * step
    affine[:3, 3] = first.position + affine[:3, :2] @ corner
    shape: Shape3 = (size[0], size[1], round(float(heights[-1])) + 1)
    return Stack(tuple(planes), Geometry(shape, LPS_TO_RAS @ affine), shifts, heights, (*notes, *more_notes))


def is_even(planes: Sequence[SlicePlane]) -> bool:
    """Says whether planes in order of position lie on one line, at even distances."""
    offsets = np.array([plane.position - planes[0].position for plane in planes])
    if len(planes) < 2:
        return False
    line = offsets[-1] / (len(planes) - 1)
    off = np.linalg.norm(offsets - np.outer(np.arange(len(planes)), line), axis=1)
    return bool(off.max() <= PLACE_TOLERANCE * np.linalg.norm(line))


def _heights(planes: Sequence[SlicePlane], along: Vector, where: Path) -> tuple[float, Vector, list[str]]:
    """Returns the distance of the grid's slices in mm, where each plane lies in it, and what was resampled.

    Args:
        planes: In order of position.
        along: Distances from the first slice along the normal, in mm.
        where: What they belong to, for messages.
    """
    n = len(planes)
    if n == 1:
        return planes[0].thickness or 1.0, np.zeros(1), []
    steps = np.diff(along)
    if (steps < SAME_POSITION_MM).any():
        n_positions = 1 + int((steps >= SAME_POSITION_MM).sum())
        raise GeometryError(
            f"{where}: {n} images at {n_positions} positions that nothing in their headers tells apart; keep one "
            "image at each position"
        )
    usual = float(np.median(steps))
    even = float(along[-1]) / (n - 1)
    if np.abs(along - even * np.arange(n)).max() <= PLACE_TOLERANCE * usual:
        return even, np.arange(n, dtype=np.float64), []
    widest = int(steps.argmax())
    between = (
        f"{_name(planes[widest])} and {_name(planes[widest + 1])} are {steps[widest]:.2f} mm apart, usual are "
        f"{usual:.2f} mm"
    )
    if steps[widest] > (WIDEST_GAP + PLACE_TOLERANCE) * usual:
        raise GeometryError(
            f"{where}: slices are missing: {between}; such a gap is not filled in, export the whole series again"
        )
    n_grid = max(round(float(along[-1]) / usual), 1) + 1
    step = float(along[-1]) / (n_grid - 1)
    heights = along / step
    if np.abs(heights - np.rint(heights)).max() <= PLACE_TOLERANCE and not _fill_the_gaps(planes, steps, usual):
        n_missing = n_grid - n
        missing = f"{n_missing} slices are" if n_missing > 1 else "1 slice is"
        if n_missing >= MOST_MISSING * n_grid:
            raise GeometryError(
                f"{where}: {n_missing} of {n_grid} slices are missing ({between}); so many are not filled in, export "
                "the whole series again"
            )
        # Those that are there lie on the grid but for rounding: they are copied, not blurred.
        return step, np.rint(heights), [f"{missing} missing ({between}): filled in by linear interpolation"]
    return step, heights, [f"slices are uneven ({between}): interpolated linearly to a distance of {step:.2f} mm"]


def _fill_the_gaps(planes: Sequence[SlicePlane], steps: Vector, usual: float) -> bool:
    """Says whether slices beside wide steps are as thick as these are wide: none is missing, the scan was
    planned so."""
    thickness = np.array([plane.thickness or 0.0 for plane in planes])
    wide = steps > (1 + PLACE_TOLERANCE) * usual
    reach = np.maximum(thickness[1:], thickness[:-1])
    return bool((reach[wide] >= (1 - PLACE_TOLERANCE) * steps[wide]).all())


def _shifts(first: SlicePlane, sideways: Vector, along: Vector) -> tuple[Vector, Vector, tuple[int, int], list[str]]:
    """Returns how slices lie off the corner of the grid, and how large the grid is.

    Returns:
        Pixels by which slices lie off the corner of the grid; the corner, from the first slice's, in pixels; the grid's
        columns and rows; and what was resampled.
    """
    axes = np.stack([first.along_row / first.pixel_spacing[0], first.down_column / first.pixel_spacing[1]])
    shifts = sideways @ axes.T
    size = (first.columns, first.rows)
    if np.abs(shifts).max() <= SHIFT_TOLERANCE:
        return np.zeros_like(shifts), np.zeros(2), size, []
    shifts[:, np.abs(shifts).max(axis=0) <= SHIFT_TOLERANCE] = 0
    corner, end = np.floor(shifts.min(axis=0)), np.ceil(shifts.max(axis=0))
    columns, rows = (int(n + more) for n, more in zip(size, end - corner, strict=True))
    distance = np.linalg.norm(sideways, axis=1)
    worst = int(distance.argmax())
    angle = np.degrees(np.arctan2(distance[worst], abs(along[worst])))
    note = f"the gantry was tilted by {angle:.1f}°: slices are moved to an upright grid (linear interpolation)"
    return shifts - corner, corner, (columns, rows), [note]


def _name(plane: SlicePlane) -> str:
    return plane.path.name if plane.frame is None else f"frame {plane.frame + 1} of {plane.path.name}"
