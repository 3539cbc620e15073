"""What the network sees of an image at once: a part of the model grid around the prompts, as it is or coarser."""

from dataclasses import dataclass
from math import ceil, floor, log
from typing import Self

import numpy as np
import torch
from torch.nn import functional

from medseg.interactive.bounds import bounds_around
from medseg.plan import Plan
from medseg.transforms.resample import grid_of_shape
from medseg.volume import Geometry, Points, Shape3

# A window is coarser where what it is about would take more of it than this, along an axis.
LARGEST_SHARE = 0.75
LARGEST_ZOOM = 4.0
ZOOM_STEP = 1.5

# An object goes on beyond a face of a window where it takes more than this part of the face, and more voxels.
LEAVES_BY_SHARE = 0.002
LEAVES_BY_VOXELS = 3


@dataclass(frozen=True)
class PromptWindow:
    """A window on a model grid.

    Attributes:
        start: Its first voxel on the model grid; below 0 where the image is smaller than the window.
        extent: How many voxels of the model grid it covers.
        shape: How many voxels the network sees of it: fewer where it is coarser.
        image_shape: Of the whole image, on the model grid.
    """

    start: Shape3
    extent: Shape3
    shape: Shape3
    image_shape: Shape3

    @classmethod
    def around(cls, middle: Points, image_shape: Shape3, plan: Plan, zoom: float = 1.0) -> Self:
        """Returns the window about a place, moved into the image where it would look beyond it.

        Args:
            middle: A place on the model grid, in voxels.
            image_shape: Of the whole image, on the model grid.
            plan: Of the network that is to see it.
            zoom: How many voxels of the model grid one of its voxels covers, along each axis that the network sees.
        """
        x, y, z = (round(n * zoom) if axis in plan.spatial_axes else n for axis, n in enumerate(plan.patch_size))
        return cls(_start(middle, (x, y, z), image_shape), (x, y, z), plan.patch_size, image_shape)

    def part(self, start: Shape3, shape: Shape3) -> Self:
        """Returns a window at the resolution of the model, from a voxel of this one on."""
        x, y, z = (own + more for own, more in zip(self.start, start, strict=True))
        return type(self)((x, y, z), shape, shape, self.image_shape)

    def geometry(self, model_grid: Geometry) -> Geometry:
        """Returns the grid of its voxels."""
        affine = model_grid.affine.copy()
        affine[:3, 3] = model_grid.world(self.start)
        covered = Geometry(self.extent, affine)
        return covered if self.extent == self.shape else grid_of_shape(covered, self.shape)

    def of_image(self, image: torch.Tensor) -> torch.Tensor:
        """Returns what it shows of an image ``(channel, x, y, z)``: means of voxels where it is coarser, and 0 beyond
        the image."""
        ends = [(first, first + n) for first, n in zip(self.start, self.extent, strict=True)]
        x, y, z = (slice(max(low, 0), min(high, n)) for (low, high), n in zip(ends, self.image_shape, strict=True))
        beyond = [(max(-low, 0), max(high - n, 0)) for (low, high), n in zip(ends, self.image_shape, strict=True)]
        seen = functional.pad(image[:, x, y, z], [n for pair in reversed(beyond) for n in pair])
        return seen if self.extent == self.shape else functional.adaptive_avg_pool3d(seen, self.shape)

    def is_left_by(self, grown: torch.Tensor) -> bool:
        """Returns whether something goes on beyond the window, inside of the image.

        Args:
            grown: What is new, bool ``(x, y, z)``, on the grid of the window.
        """
        for axis, (first, n, whole) in enumerate(zip(self.start, self.extent, self.image_shape, strict=True)):
            ends = ([0] if first > 0 else []) + ([-1] if first + n < whole else [])
            faces = [grown.select(axis, end) for end in ends] if self.shape[axis] > 1 else []
            if any(int(face.sum()) > max(LEAVES_BY_VOXELS, LEAVES_BY_SHARE * face.numel()) for face in faces):
                return True
        return False

    def around_found(self, found: torch.Tensor, plan: Plan) -> Self | None:
        """Returns what has to be looked at in detail: the part of the model grid around what was found in this window.

        It is no smaller than a patch. None: nothing was found.

        Args:
            found: Bool ``(x, y, z)``, on the grid of the window.
            plan: Of the network.
        """
        box = bounds_around(found.numpy())
        if box is None:
            return None
        scales = [n / m for n, m in zip(self.extent, self.shape, strict=True)]
        ends = [
            (first + floor((low - 1) * scale), first + ceil((high + 1) * scale))
            for first, (low, high), scale in zip(self.start, box, scales, strict=True)
        ]
        within = [(max(low, 0), min(high, n)) for (low, high), n in zip(ends, self.image_shape, strict=True)]
        middle = np.array([(low + high - 1) / 2 for low, high in within])
        x, y, z = (
            max(high - low, patch) if axis in plan.spatial_axes else patch
            for axis, ((low, high), patch) in enumerate(zip(within, plan.patch_size, strict=True))
        )
        if plan.slice_axis is not None:
            middle[plan.slice_axis] = self.start[plan.slice_axis]
        return type(self)(_start(middle, (x, y, z), self.image_shape), (x, y, z), (x, y, z), self.image_shape)


def zoom_for(size: Points, plan: Plan) -> float:
    """Returns how coarse a window has to be that shows something of a size well.

    Args:
        size: Its voxels on the model grid, along each axis.
        plan: Of the network.
    """
    needed = [size[axis] / (LARGEST_SHARE * plan.patch_size[axis]) for axis in plan.spatial_axes]
    return min(max([1.0, *map(float, needed)]), LARGEST_ZOOM)


def wider_zooms(zoom: float) -> list[float]:
    """Returns a zoom and those beyond it, up to the largest."""
    steps = ceil(log(LARGEST_ZOOM / zoom) / log(ZOOM_STEP) - 1e-9)
    return [min(zoom * ZOOM_STEP**step, LARGEST_ZOOM) for step in range(steps + 1)]


def _start(middle: Points, extent: Shape3, image: Shape3) -> Shape3:
    """Returns where an extent about a place begins; it lies inside of the image, or the image lies in its middle."""
    x, y, z = (
        -((n - whole) // 2) if n >= whole else min(max(round(at - (n - 1) / 2), 0), whole - n)
        for at, n, whole in zip(middle, extent, image, strict=True)
    )
    return x, y, z
