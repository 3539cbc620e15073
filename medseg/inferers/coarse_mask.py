"""A coarse mask on the model grid: which windows are worth asking the network about."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from medseg.volume import Array, Shape3, Spacing3

# Blocks are about twice as long, in mm, and of no more than twice as many voxels along an axis.
HALF_BLOCK_MM = 2.0
MOST_HALVES = 4


@dataclass(frozen=True)
class CoarseMask:
    """A mask in blocks of voxels.

    ``blocks`` (x, y, z, bool) are of ``step`` voxels of the model grid each, the first of them at its first voxel.
    """

    blocks: Array
    step: Shape3

    def touches(self, place: tuple[slice, ...]) -> bool:
        """Returns whether the mask has voxels in a box ``(x, y, z)`` of the model grid, which may reach beyond it."""
        ends = zip(place, self.step, strict=True)
        box = tuple(slice(max(part.start, 0) // step, -(-part.stop // step)) for part, step in ends)
        return bool(self.blocks[box].any())

    def dilated(self, margin_mm: float, spacing: Spacing3) -> "CoarseMask":
        """Returns the mask, dilated by no less than the margin, and by up to two diagonals of a block more.

        Args:
            margin_mm: How far the mask grows at least.
            spacing: Edges of a voxel of the model grid in mm, in array-axis order.
        """
        from scipy.ndimage import distance_transform_edt  # takes long to import

        if not self.blocks.any():
            return self
        edges = np.multiply(self.step, spacing)
        distance = distance_transform_edt(~self.blocks, sampling=edges)  # between the blocks' centres
        return CoarseMask(distance <= margin_mm + np.linalg.norm(edges), self.step)


def block_step(spacing: Spacing3) -> Shape3:
    """Returns the voxels of a block along each axis.

    They are even numbers, so that blocks of every second voxel are blocks too.
    """
    x, y, z = (2 * min(max(1, round(HALF_BLOCK_MM / mm)), MOST_HALVES) for mm in spacing)
    return x, y, z


def block_maxima(array: torch.Tensor, step: Shape3) -> torch.Tensor:
    """Returns the largest value of each block of ``array`` ``(x, y, z)``, float; the last blocks may lack voxels."""
    maxima: torch.Tensor = functional.max_pool3d(array[None], step, ceil_mode=True)[0]
    return maxima
