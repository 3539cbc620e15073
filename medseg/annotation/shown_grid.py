"""The grid that the page shows: that of the image with its axes put in the order of RAS, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from medseg.interactive.bounds import Bounds
from medseg.viewer.colour_image import placed_as_seen
from medseg.viewer.scene import AXES
from medseg.volume import Array, Geometry


@dataclass(frozen=True)
class ShownGrid:
    """Brings arrays and places from the grid of a source to the grid that is shown, and back; nothing is interpolated.

    Args:
        source: The grid of the image.

    Examples:
        >>> import numpy as np
        >>> from medseg.volume import Geometry
        >>> grid = ShownGrid(Geometry((4, 5, 6), np.diag([-1.0, 1.0, 2.0, 1.0])))
        >>> grid.to_source(((0, 1), (2, 3), (0, 6)))
        ((3, 4), (2, 3), (0, 6))
    """

    source: Geometry

    @cached_property
    def shown(self) -> Geometry:
        """The grid that is shown, in RAS mm."""
        return placed_as_seen(self.source).oriented_as(AXES)

    @cached_property
    def _axes(self) -> Array:
        """Of each axis of the source the shown axis, and whether it is flipped (-1)."""
        change: Array = ornt_transform(io_orientation(placed_as_seen(self.source).affine), axcodes2ornt(tuple(AXES)))
        return change

    def array_to_shown(self, array: Array) -> Array:
        """Returns an array ``(x, y, z)`` of the source, or a part of it, with its axes as they are shown."""
        shown: Array = apply_orientation(array, self._axes)
        return shown

    def array_to_source(self, array: Array) -> Array:
        """Returns an array ``(x, y, z)`` as it is shown, or a part of it, with the axes of the source."""
        back = ornt_transform(axcodes2ornt(tuple(AXES)), io_orientation(placed_as_seen(self.source).affine))
        source: Array = apply_orientation(array, back)
        return source

    def to_source(self, bounds: Bounds) -> Bounds:
        """Returns a box of shown voxels as a box of voxels of the source."""
        first, second, third = (
            _turned(bounds[int(shown)], direction, n)
            for (shown, direction), n in zip(self._axes, self.source.shape, strict=True)
        )
        return first, second, third

    def to_shown(self, bounds: Bounds) -> Bounds:
        """Returns a box of voxels of the source as a box of shown voxels."""
        turned = {
            int(shown): _turned(pair, direction, n)
            for pair, (shown, direction), n in zip(bounds, self._axes, self.source.shape, strict=True)
        }
        return turned[0], turned[1], turned[2]

    def voxel_to_source(self, voxel: Sequence[int]) -> tuple[int, int, int]:
        """Returns the voxel of the source that is shown as ``voxel``."""
        x, y, z = (int(i) for i in voxel)
        (i, _), (j, _), (k, _) = self.to_source(((x, x + 1), (y, y + 1), (z, z + 1)))
        return i, j, k


def _turned(pair: tuple[int, int], direction: float, n: int) -> tuple[int, int]:
    start, stop = pair
    return (start, stop) if direction > 0 else (n - stop, n - start)
