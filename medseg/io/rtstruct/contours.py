"""Contours of one structure as a mask on a grid.

The rules:

* contours in one plane are filled together by the even-odd rule, so that contours in others are holes;
* where the contours lie on the true slices of the image, each slice shows its own, and one without contours nothing;
* otherwise each slice of the grid shows the contours of the nearest plane that lies within half of the distance between
  the planes. Nothing is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from medseg.io.dicom.geometry import NUDGE, SlicePlane, Vector
from medseg.io.dicom.stack import PLACE_TOLERANCE
from medseg.io.rtstruct.polygons import filled
from medseg.volume import Array, Geometry

# Contours closer than this lie in one plane, unless slices are that thin.
SAME_PLANE_MM = 0.1

# Planes of contours that are further apart are those of several lesions.
WIDEST_DISTANCE_MM = 10.0

# Points of a contour may lie this far off its plane, in slices: positions are rounded, orientations too.
FLATNESS = 0.25


class Filled(NamedTuple):
    """Contours that were filled.

    Attributes:
        mask: Boolean ``(x, y, z)``; it lies at ``box`` of the grid.
        box: Of the grid.
        remarks: What did not fit, in words.
        is_outside: Whether nothing of it lies inside of the grid.
    """

    mask: Array
    box: tuple[slice, slice, slice]
    remarks: tuple[str, ...]
    is_outside: bool


NOTHING = Filled(np.zeros((0, 0, 0), dtype=bool), (slice(0, 0),) * 3, ("no closed contours, so it is empty",), True)


class Levels(NamedTuple):
    """The planes that contours lie in, along the axis that they are drawn across.

    Attributes:
        heights: Where each plane lies, in voxels.
        numbers: The plane of each contour.
        reach: How far from its plane a contour is shown, in voxels.
    """

    heights: Vector
    numbers: Array
    reach: float


@dataclass(frozen=True)
class ContourStack:
    """Contours on a grid, all at right angles to one array axis.

    Attributes:
        contours: Corners ``(n, 3)`` of each, in voxels.
        axis: The array axis.
        grid: The grid, in RAS mm.
    """

    contours: tuple[Vector, ...]
    axis: int
    grid: Geometry

    @property
    def across(self) -> list[int]:
        """The two array axes of the planes that the contours lie in."""
        return [axis for axis in range(3) if axis != self.axis]

    @property
    def slice_distance(self) -> float:
        """The distance of slices along the axis, in mm."""
        return self.grid.spacing[self.axis]

    @cached_property
    def heights(self) -> Vector:
        """The place of each contour along ``axis``, in voxels: an array (contour,)."""
        return np.array([contour[:, self.axis].mean() for contour in self.contours])

    @cached_property
    def ends(self) -> tuple[Vector, Vector]:
        """The lowest and the highest corner of each contour, in voxels: two arrays (contour, 3)."""
        return np.array([c.min(axis=0) for c in self.contours]), np.array([c.max(axis=0) for c in self.contours])


def outline_of(contours: Sequence[Vector], grid: Geometry) -> ContourStack | None:
    """Returns contours as a stack of them on a grid; None when they are parallel to slices along none of its axes.

    Args:
        contours: ``(n, 3)`` each, in RAS mm.
        grid: The grid of the image.
    """
    corners = tuple(grid.index(contour) for contour in contours)
    off_plane = np.max([np.ptp(corner, axis=0) for corner in corners], axis=0)
    axis = int(off_plane.argmin())
    return ContourStack(corners, axis, grid) if off_plane[axis] <= FLATNESS else None


def fill(outline: ContourStack, planes: Sequence[SlicePlane] = ()) -> Filled:
    """Returns the voxels whose centres lie inside of contours.

    Args:
        outline: The contours.
        planes: The true slices of the image; none where they are those of the grid.
    """
    on_slices = _levels_of_slices(outline, planes)
    levels = on_slices or _own_levels(outline)
    shown = _shown(levels, outline.grid.shape[outline.axis])
    box = _box(outline, levels, shown)
    mask = _drawn(outline, levels, shown, box)
    remarks = [] if on_slices else _remarks_on_planes(outline, levels, shown)
    n_outside, is_outside = _outside(outline)
    if n_outside:
        remarks.append(f"{n_outside} of {len(outline.contours)} contours reach out of the image; cut off there")
    elif not mask.any():
        remarks.append("too small for this grid: no centre of a voxel lies inside")
    drawn = np.flatnonzero(np.isin(shown, levels.numbers))
    n_between = int(drawn[-1] - drawn[0] + 1 - len(drawn)) if len(drawn) else 0
    if n_between:
        remarks.append(f"{n_between} slices between others have no contours, and are left empty")
    return Filled(mask, box, tuple(remarks), is_outside)


def _levels_of_slices(outline: ContourStack, planes: Sequence[SlicePlane]) -> Levels | None:
    """Returns the true slices; None when there are none, or when contours lie beside them."""
    if not planes:
        return None
    corners = [plane.geometry.world([(0, 0, 0), (plane.columns, 0, 0), (0, plane.rows, 0)]) for plane in planes]
    along = outline.grid.index(corners)[..., outline.axis]
    if np.ptp(along, axis=1).max() > FLATNESS:
        return None
    heights = along.mean(axis=1)
    numbers = _nearest(heights, outline.heights)
    usual = float(np.abs(np.median(np.diff(heights)))) if len(heights) > 1 else 1.0
    beside = np.abs(heights[numbers] - outline.heights).max()
    return Levels(heights, numbers, np.inf) if beside <= PLACE_TOLERANCE * usual else None


def _own_levels(outline: ContourStack) -> Levels:
    """Returns the planes that the contours themselves make out."""
    order = np.argsort(outline.heights)
    ordered = outline.heights[order]
    same = min(SAME_PLANE_MM / outline.slice_distance, FLATNESS)
    numbers = np.empty(len(order), dtype=int)
    numbers[order] = np.cumsum(np.diff(ordered, prepend=ordered[0]) > same)
    heights = np.bincount(numbers, weights=outline.heights) / np.bincount(numbers)
    distance = float(np.diff(heights).min()) if len(heights) > 1 else 1.0
    if distance * outline.slice_distance > WIDEST_DISTANCE_MM:
        distance = 1.0
    return Levels(heights, numbers, distance / 2)


def _nearest(heights: Array, to: Array) -> Array:
    """Returns for each of ``to`` the number of the nearest height."""
    nearest: Array = np.abs(heights[None] - to[:, None]).argmin(axis=1)
    return nearest


def _shown(levels: Levels, n_slices: int) -> Array:
    """Returns the plane that each slice of the grid shows; -1 for none."""
    heights = np.arange(n_slices) + NUDGE  # half-way between two planes, the upper one is shown
    nearest = _nearest(levels.heights, heights)
    within = np.abs(levels.heights[nearest] - heights) <= levels.reach
    return np.where(within, nearest, -1)


def _box(outline: ContourStack, levels: Levels, shown: Array) -> tuple[slice, slice, slice]:
    """Returns what part of the grid the contours can cover."""
    low, high = outline.ends
    first, end = np.floor(low.min(axis=0)), np.ceil(high.max(axis=0)) + 1
    drawn = np.flatnonzero(np.isin(shown, levels.numbers))
    first[outline.axis], end[outline.axis] = (drawn[0], drawn[-1] + 1) if len(drawn) else (0, 0)
    x, y, z = (
        slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n)))
        for a, b, n in zip(first, end, outline.grid.shape, strict=True)
    )
    return x, y, z


def _drawn(outline: ContourStack, levels: Levels, shown: Array, box: tuple[slice, slice, slice]) -> Array:
    first = np.array([part.start for part in box])
    size = [part.stop - part.start for part in box]
    mask = np.zeros(size, dtype=bool)
    slices = np.moveaxis(mask, outline.axis, 0)
    a, b = outline.across
    for number in np.unique(levels.numbers):
        polygons = [outline.contours[i] - first for i in np.flatnonzero(levels.numbers == number)]
        picture = filled([polygon[:, outline.across] for polygon in polygons], (size[a], size[b]))
        slices[np.flatnonzero(shown[box[outline.axis]] == number)] = picture
    return mask


def _outside(outline: ContourStack) -> tuple[int, bool]:
    """Returns how many contours reach out of the grid, and whether all lie wholly outside."""
    low, high = outline.ends
    last = np.array(outline.grid.shape) - 0.5
    reaching = ((low < -0.5 - FLATNESS) | (high > last + FLATNESS)).any(axis=1)
    beyond = ((high < -0.5) | (low > last)).any(axis=1)
    return int(reaching.sum()), bool(beyond.all())


def _remarks_on_planes(outline: ContourStack, levels: Levels, shown: Array) -> list[str]:
    """Returns how the planes of the contours lie to the slices, where they are not the same."""
    remarks = []
    distance, between = outline.slice_distance, 2 * levels.reach
    if len(levels.heights) > 1 and abs(between - 1) > PLACE_TOLERANCE:
        remarks.append(
            f"contours {between * distance:.2f} mm apart, slices {distance:.2f} mm: each slice shows the nearest "
            f"within {levels.reach * distance:.2f} mm"
        )
    beside = np.abs(levels.heights - np.rint(levels.heights)).max()
    if beside > PLACE_TOLERANCE and abs(between - 1) <= PLACE_TOLERANCE:
        remarks.append(
            f"contours lie up to {beside * distance:.2f} mm beside the slices: each slice shows the nearest within "
            f"{levels.reach * distance:.2f} mm"
        )
    return remarks
