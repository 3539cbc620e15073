"""The slices that a DICOM segmentation was drawn on, as a lattice of voxels.

Unlike a ``Geometry``, they may be tilted or uneven: frames of a DICOM SEG lie on the true slices of their image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medseg.errors import GeometryError
from medseg.io.dicom.geometry import LPS_TO_RAS, NUDGE, SAME_POSITION_MM, SlicePlane, Vector
from medseg.io.dicom.stack import PLACE_TOLERANCE, SHIFT_TOLERANCE, WIDEST_GAP, stack_of
from medseg.volume import Geometry, Shape3


@dataclass(frozen=True)
class Slices:
    """Parallel planes in order of position along their normal. Voxels are indexed (column, row, slice).

    Attributes:
        planes: At least one, all of one size and spacing.
    """

    planes: tuple[SlicePlane, ...]

    @property
    def shape(self) -> Shape3:
        """Voxels as ``(columns, rows, slices)``."""
        return self.planes[0].columns, self.planes[0].rows, len(self.planes)

    @cached_property
    def positions(self) -> Vector:
        """The place of each first voxel, ``(slice, 3)``, LPS mm."""
        return np.array([plane.position for plane in self.planes])

    @cached_property
    def heights(self) -> Vector:
        """The place of each slice along the normal, ``(slice,)``, in mm."""
        return self.positions @ self.planes[0].normal

    @cached_property
    def usual_distance(self) -> float:
        """The usual (median) distance between slices in mm; of a single one its thickness, or 1."""
        return float(np.median(np.diff(self.heights))) if len(self.planes) > 1 else self.planes[0].thickness or 1.0

    @cached_property
    def _pixels(self) -> Vector:
        """What makes columns and rows of LPS mm, ``(3, 2)``."""
        first = self.planes[0]
        return np.stack([first.along_row / first.pixel_spacing[0], first.down_column / first.pixel_spacing[1]], axis=1)

    def world(self, index: npt.ArrayLike) -> Vector:
        """Returns the places of voxels in the world.

        Args:
            index: Voxel indices ``(..., 3)``; slices are whole numbers.

        Returns:
            RAS mm ``(..., 3)``.
        """
        index = np.asarray(index, dtype=np.float64)
        first = self.planes[0]
        edges = np.stack([first.along_row * first.pixel_spacing[0], first.down_column * first.pixel_spacing[1]])
        world: Vector = (self.positions[index[..., 2].astype(int)] + index[..., :2] @ edges) @ LPS_TO_RAS[:3, :3]
        return world

    def index(self, world: npt.ArrayLike) -> Vector:
        """Returns the voxel indices of places in the world: the column and row, not rounded, in the nearest slice.

        The slice is -1 where none is near: beyond the ends by more than half of the usual distance, or in a gap that is
        wider than those that are bridged when images are read.

        Args:
            world: RAS mm ``(..., 3)``.

        Returns:
            Voxel indices ``(..., 3)``.
        """
        position = np.asarray(world, dtype=np.float64) @ LPS_TO_RAS[:3, :3]
        height = position @ self.planes[0].normal + NUDGE * self.usual_distance
        nearest = np.searchsorted((self.heights[1:] + self.heights[:-1]) / 2, height)
        beyond = np.maximum(self.heights[0] - height, height - self.heights[-1]) > self.usual_distance / 2
        far = np.abs(height - self.heights[nearest]) > self.usual_distance * WIDEST_GAP / 2 * (1 + PLACE_TOLERANCE)
        pixel = (position - self.positions[nearest]) @ self._pixels
        return np.concatenate([pixel, np.where(beyond | far, -1, nearest)[..., None]], axis=-1)

    def geometry(self, where: Path) -> Geometry | None:
        """Returns the grid that the slices make; None when they are tilted or uneven.

        Args:
            where: The path of what they belong to.
        """
        try:
            stack = stack_of(self.planes, where)
        except GeometryError:
            return None
        return stack.geometry if stack.is_grid else None

    def numbers_of(self, planes: Sequence[SlicePlane]) -> list[int] | None:
        """Returns which slice each plane lies on, pixel on pixel; None unless all of them do."""
        numbers = self.nearest(planes)
        return numbers if all(self._holds(plane, i) for plane, i in zip(planes, numbers, strict=True)) else None

    def nearest(self, planes: Sequence[SlicePlane]) -> list[int]:
        """Returns the number of the slice that each plane is nearest to, by height."""
        normal = self.planes[0].normal
        return [int(np.abs(self.heights - plane.position @ normal).argmin()) for plane in planes]

    def _holds(self, plane: SlicePlane, i: int) -> bool:
        offset = plane.position - self.positions[i]
        height = abs(offset @ self.planes[0].normal)
        sideways = np.abs(offset @ self._pixels).max()
        return (
            self.planes[i].is_parallel_to(plane)
            and height <= PLACE_TOLERANCE * self.usual_distance
            and sideways <= SHIFT_TOLERANCE
        )


def evenly_filled(planes: Sequence[SlicePlane], distances: Sequence[float]) -> Slices:
    """Returns the slices that some planes belong to, with absent ones filled in where all lie evenly.

    Args:
        planes: Parallel ones in any order, repeated ones too.
        distances: Distances of the slices in mm. The first of them that fits is taken, else the smallest distance among
            the planes, if that fits.
    """
    normal = planes[0].normal
    ordered = sorted(planes, key=lambda plane: float(plane.position @ normal))
    heights = np.array([plane.position @ normal for plane in ordered])
    new = np.diff(heights, prepend=-np.inf) > SAME_POSITION_MM
    distinct, heights = [plane for plane, is_new in zip(ordered, new, strict=True) if is_new], heights[new]
    if len(distinct) == 1:
        return Slices((distinct[0],))
    for distance in (*distances, float(np.diff(heights).min())):
        numbers = _numbers(heights, distance)
        if numbers is not None:
            return Slices(tuple(_filled_in(distinct, numbers)))
    return Slices(tuple(distinct))


def _numbers(heights: Vector, distance: float) -> Vector | None:
    """Returns the number of each height among even ones of about a distance; None when they are not even."""
    steps = np.rint(np.diff(heights) / distance)
    if steps.min() < 1:
        return None
    numbers: Vector = np.concatenate([[0], np.cumsum(steps)])
    even = (heights[-1] - heights[0]) / numbers[-1]
    is_even = np.abs(heights - heights[0] - even * numbers).max() <= PLACE_TOLERANCE * even
    return numbers if is_even and abs(even - distance) <= PLACE_TOLERANCE * distance else None


def _filled_in(planes: Sequence[SlicePlane], numbers: Vector) -> list[SlicePlane]:
    positions = np.array([plane.position for plane in planes])
    every = np.arange(numbers[-1] + 1)
    filled = np.stack([np.interp(every, numbers, positions[:, axis]) for axis in range(3)], axis=1)
    return [replace(planes[0], position=position) for position in filled]
