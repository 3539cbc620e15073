"""Resampling between two grids whose axes are parallel, one axis after the other.

It is exact about geometry: voxel centres are placed by the affines, so there is no "align corners" to choose. The
same function takes images to the model grid and logits back to the source grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import torch

from medseg.errors import GeometryError
from medseg.volume import Geometry, Spacing3

Interpolation = Literal["linear", "cubic"]

# Keys 1981 ("Cubic convolution interpolation for digital image processing"), eq. 4: exact for quadratics.
KEYS_A = -0.5

# Label maps are resampled to this many voxels at a time: few labels lie in one slab, and little memory is needed.
VOXELS_PER_SLAB = 2**22

# Rows of an interpolation matrix that are multiplied at a time.
BLOCK = 32


def grid_with_spacing(geometry: Geometry, spacing: Spacing3) -> Geometry:
    """Returns the grid of another spacing that covers the same box.

    The outer faces of the first and last voxels stay in place.

    Args:
        geometry: The old grid.
        spacing: mm, in array-axis order. The new one differs a little from it where the box is no multiple of it.

    Examples:
        >>> import numpy as np
        >>> from medseg.volume import Geometry
        >>> grid_with_spacing(Geometry((10, 10, 5), np.diag([1.0, 1.0, 2.0, 1.0])), (2.0, 1.0, 1.0)).shape
        (5, 10, 10)
    """
    old = np.asarray(geometry.spacing)
    shape = np.maximum(np.rint(np.asarray(geometry.shape) * old / np.asarray(spacing)), 1).astype(int)
    scale = np.asarray(geometry.shape) / shape  # old voxels a new voxel; not quite the spacing asked for
    to_old = np.diag([*scale, 1.0])
    to_old[:3, 3] = (scale - 1) / 2
    x, y, z = (int(n) for n in shape)
    return Geometry((x, y, z), geometry.affine @ to_old)


def resample(
    array: torch.Tensor, source: Geometry, target: Geometry, interpolation: Interpolation = "linear"
) -> torch.Tensor:
    """Returns values at the voxel centres of another grid with parallel axes.

    Beyond the outermost voxel centres the nearest value is taken.

    Args:
        array: (channel, x, y, z) on ``source``, floats.
        source: Where it lies.
        target: Where values are wanted.
        interpolation: "linear", or "cubic" (Keys 1981, a = -0.5: exact for quadratics).

    Raises:
        GeometryError: The axes of the grids are not parallel (orient them first).

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from medseg.volume import Geometry
        >>> source = Geometry((4, 1, 1), np.eye(4))
        >>> target = grid_with_spacing(source, (2.0, 1.0, 1.0))
        >>> resample(torch.tensor([0.0, 2.0, 4.0, 6.0]).view(1, 4, 1, 1), source, target).flatten().tolist()
        [1.0, 5.0]
    """
    for dim, coordinates in enumerate(parallel_coordinates(source, target), start=1):
        array = resample_axis(array, coordinates, dim, interpolation)
    return array


def resample_label_map(label_map: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
    """Returns a label map on another grid with parallel axes.

    Each label's mask is resampled linearly, and the largest share wins. No value appears that wasn't there, and borders
    stay smoother than with nearest neighbours.

    Args:
        label_map: ``(x, y, z)`` on ``source``, network values.
        source: Where it lies.
        target: Where labels are wanted.

    Raises:
        GeometryError: The axes of the grids are not parallel.
    """
    if source.difference(target) is None:
        return label_map
    x, y, z = parallel_coordinates(source, target)
    result = torch.empty(target.shape, dtype=label_map.dtype)
    thickness = max(1, VOXELS_PER_SLAB // (target.shape[0] * target.shape[1]))
    for start in range(0, target.shape[2], thickness):
        part = z[start : start + thickness]
        # The slices of the source between which this slab lies.
        low = min(max(int(part.min().floor()), 0), source.shape[2] - 1)
        high = max(int(part.max().floor()) + 2, low + 1)
        result[:, :, start : start + thickness] = _largest_share(label_map[:, :, low:high], (x, y, part - low))
    return result


def _largest_share(label_map: torch.Tensor, coordinates: Sequence[torch.Tensor]) -> torch.Tensor:
    best = torch.zeros([len(axis) for axis in coordinates])
    result = torch.zeros(best.shape, dtype=label_map.dtype)
    present = torch.bincount(label_map.flatten()).nonzero().flatten()
    for value in present.tolist():
        share = (label_map == value).float()
        for dim, axis in enumerate(coordinates):
            share = resample_axis(share, axis, dim)
        result[share > best] = value
        best = torch.maximum(best, share)
    return result


def parallel_coordinates(source: Geometry, target: Geometry) -> list[torch.Tensor]:
    """Returns for each axis the source indices of the target's voxel centres, float64, not rounded.

    Raises:
        GeometryError: The axes of the grids are not parallel.
    """
    to_source = np.linalg.inv(source.affine) @ target.affine
    scale = np.diag(to_source)[:3]
    skew = to_source[:3, :3] - np.diag(scale)
    # A skew counts by how far it moves the last voxel.
    if np.abs(skew @ np.asarray(target.shape)).max() > 0.5:
        raise GeometryError(
            f"grids with axes {source.orientation} and {target.orientation} are not parallel; cannot resample"
        )
    return [
        torch.arange(n, dtype=torch.float64) * scale[axis] + to_source[axis, 3] for axis, n in enumerate(target.shape)
    ]


def resample_axis(
    array: torch.Tensor, coordinates: torch.Tensor, dim: int, interpolation: Interpolation = "linear"
) -> torch.Tensor:
    """Returns the values along one axis of an array at other places.

    Args:
        array: Of any shape.
        coordinates: Voxel indices, float; they need not be whole.
        dim: The axis.
        interpolation: Between voxels.
    """
    size = array.shape[dim]
    nearest = coordinates.round()
    if torch.allclose(coordinates, nearest, atol=1e-4, rtol=0):
        # Nothing between voxels: copy, without rounding errors and without work.
        index = nearest.long().clamp(0, size - 1).to(array.device)
        unchanged = len(index) == size and bool((index == torch.arange(size, device=index.device)).all())
        return array if unchanged else array.index_select(dim, index)
    if interpolation == "cubic":
        return _multiplied(_cubic_matrix(coordinates, size).to(array), array, dim)
    # Voxel by voxel, so that labels with equal shares don't win by the rounding of a block.
    low = coordinates.floor()
    part, index = (coordinates - low).to(array).view(-1, *[1] * (array.ndim - 1 - dim)), low.long().to(array.device)
    lower, upper = (array.index_select(dim, tap.clamp(0, size - 1)) for tap in (index, index + 1))
    return lower.mul_(1 - part).add_(upper.mul_(part))


def _multiplied(matrix: torch.Tensor, array: torch.Tensor, dim: int) -> torch.Tensor:
    """Returns the product of a matrix, ``(new, old)``, with ``array`` along ``dim``.

    It goes in blocks, since all else than a band of the matrix is zero. Matrix products are several times as fast as
    sums over voxels picked out one by one.
    """
    shape = array.shape
    columns = array.reshape(prod(shape[:dim]), shape[dim], prod(shape[dim + 1 :]))
    result = array.new_empty(len(columns), len(matrix), columns.shape[2])
    for start in range(0, len(matrix), BLOCK):
        block = matrix[start : start + BLOCK]
        band = block.any(0).nonzero().flatten()
        low, high = int(band[0]), int(band[-1]) + 1
        part, block = columns[:, low:high], block[:, low:high]
        if columns.shape[2] == 1:  # the last axis
            result[:, start : start + BLOCK, 0] = part[..., 0] @ block.T
        else:
            result[:, start : start + BLOCK] = block @ part
    return result.view(*shape[:dim], len(matrix), *shape[dim + 1 :])


def _cubic_matrix(coordinates: torch.Tensor, size: int) -> torch.Tensor:
    """Returns the weights of old voxels in new ones, ``(new, old)``, float64."""
    matrix = torch.zeros(len(coordinates), size, dtype=torch.float64)
    low = coordinates.floor()
    for offset in (-1, 0, 1, 2):
        d = (coordinates - (low + offset)).abs()
        near = (KEYS_A + 2) * d**3 - (KEYS_A + 3) * d**2 + 1
        far = KEYS_A * (d**3 - 5 * d**2 + 8 * d - 4)
        tap = (low.long() + offset).clamp(0, size - 1)
        matrix.scatter_add_(1, tap[:, None], torch.where(d <= 1, near, far)[:, None])
    return matrix


@dataclass(frozen=True)
class Taps:
    """Between which voxels of an axis some places lie; clamped at its ends.

    Attributes:
        low: The voxel before each place.
        high: The voxel after it.
        part: How much the higher one counts, from 0 to 1, float32.
    """

    low: torch.Tensor
    high: torch.Tensor
    part: torch.Tensor

    @property
    def on_voxels(self) -> bool:
        """Whether all places are voxels."""
        return not bool(self.part.any())

    def __getitem__(self, index: slice) -> "Taps":
        return Taps(self.low[index], self.high[index], self.part[index])

    def after(self, start: int) -> "Taps":
        """Returns the same taps, counted in voxels from ``start`` on."""
        return Taps(self.low - start, self.high - start, self.part)

    def to(self, device: torch.device) -> "Taps":
        """Returns the same taps on a device."""
        return Taps(self.low.to(device), self.high.to(device), self.part.to(device))


def taps_at(coordinates: torch.Tensor, size: int) -> Taps:
    """Returns the taps of places along an axis.

    Args:
        coordinates: The places, in voxels.
        size: How many voxels the axis has.
    """
    nearest = coordinates.round()
    if torch.allclose(coordinates, nearest, atol=1e-4, rtol=0):
        index = nearest.long().clamp(0, size - 1)
        return Taps(index, index, torch.zeros(len(index)))
    low = coordinates.floor()
    index = low.long()
    return Taps(index.clamp(0, size - 1), (index + 1).clamp(0, size - 1), (coordinates - low).float())
