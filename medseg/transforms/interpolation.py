"""Values between the voxels of one axis: of the nearest one, linear, by cubic convolution, or of a cubic B-spline."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import torch

Interpolation = Literal["nearest", "linear", "cubic", "spline"]

# Keys 1981 ("Cubic convolution interpolation for digital image processing"), eq. 4: exact for quadratics.
KEYS_A = -0.5

# Of the cubic B-spline that goes through all samples (Unser et al. 1993): how fast the weights of samples fall off with
# their distance, and how far away they are counted, where they are below 1e-7.
SPLINE_POLE = 3**0.5 - 2
SPLINE_REACH = 13

# Places that are as little before the middle between two voxels lie there, but for rounding.
HALF = 1e-6

# Offsets of voxels, each with its weight in every place.
_Weights = Iterator[tuple[int, torch.Tensor]]

# Rows of an interpolation matrix that are multiplied at a time.
BLOCK = 32


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
    index = _voxels_taken(coordinates, size, interpolation)
    if index is not None:
        index = index.to(array.device)
        unchanged = len(index) == size and bool((index == torch.arange(size, device=index.device)).all())
        return array if unchanged else array.index_select(dim, index)
    if interpolation != "linear":
        weights = _keys_weights if interpolation == "cubic" else _spline_weights
        return _multiplied(_matrix(coordinates, size, weights).to(array), array, dim)
    return _linear(array, coordinates, dim, size)


def _voxels_taken(coordinates: torch.Tensor, size: int, interpolation: Interpolation) -> torch.Tensor | None:
    """Returns the voxel of each place where all places are voxels, which are copied without rounding errors and without
    work, or where the nearest ones are taken; None where values lie between."""
    nearest = coordinates.round()
    if torch.allclose(coordinates, nearest, atol=1e-4, rtol=0):
        return nearest.long().clamp(0, size - 1)
    return nearest_index(coordinates, size) if interpolation == "nearest" else None


def _linear(array: torch.Tensor, places: torch.Tensor, dim: int, size: int, first: int = 0) -> torch.Tensor:
    """Returns the values between voxels of an axis of which the array holds those from ``first`` on.

    Voxel by voxel, so that labels with equal shares don't win by the rounding of a block.
    """
    low = places.floor()
    share = (places - low).to(array).view(-1, *[1] * (array.ndim - 1 - dim))
    taps = ((low.long() + end).clamp(0, size - 1) - first for end in (0, 1))
    lower, upper = (array.index_select(dim, tap.to(array.device)) for tap in taps)
    return lower.mul_(1 - share).add_(upper.mul_(share))


@dataclass(frozen=True)
class AxisResampling:
    """The values along one axis at other places, as ``resample_axis`` gives them, a part of them at a time.

    Attributes:
        coordinates: All places, in voxels of the axis, float64.
        size: How many voxels the axis has.
        interpolation: Between voxels: "linear", "cubic" or "nearest".
    """

    coordinates: torch.Tensor
    size: int
    interpolation: Interpolation

    @cached_property
    def index(self) -> torch.Tensor | None:
        """The index of the voxel that is taken for each place; None where values are interpolated between voxels."""
        return _voxels_taken(self.coordinates, self.size, self.interpolation)

    def whole_rows(self, part: slice) -> slice:
        """Returns a part and what is computed together with it (``BLOCK``), so that sums are rounded alike."""
        if self.index is not None or self.interpolation != "cubic":
            return part
        return slice(part.start // BLOCK * BLOCK, min(-(-part.stop // BLOCK) * BLOCK, len(self.coordinates)))

    def needed(self, part: slice) -> slice:
        """Returns the voxels of the axis that a part of the places depends on."""
        if self.index is not None:
            index = self.index[part]
            return slice(int(index.min()), int(index.max()) + 1)
        places = self.coordinates[part]
        before, behind = (1, 3) if self.interpolation == "cubic" else (0, 2)
        low, high = int(places.min().floor()) - before, int(places.max().floor()) + behind
        return slice(min(max(low, 0), self.size - 1), max(min(high, self.size), 1))

    def values(self, array: torch.Tensor, dim: int, part: slice) -> torch.Tensor:
        """Returns the values at a part of the places.

        Args:
            array: The voxels that ``needed`` says, along ``dim``.
            dim: The axis.
            part: Of the places.
        """
        there = self.needed(part)
        if self.index is not None:
            index = self.index[part] - there.start
            return array.index_select(dim, index)
        places = self.coordinates[part]
        if self.interpolation == "cubic":
            return _multiplied(_matrix(places, self.size, _keys_weights, there).to(array), array, dim)
        return _linear(array, places, dim, self.size, there.start)


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


def _matrix(
    coordinates: torch.Tensor, size: int, weights: Callable[[torch.Tensor], _Weights], there: slice | None = None
) -> torch.Tensor:
    """Returns the weights of old voxels in new ones, ``(new, old)``, float64; beyond its ends an axis goes on as is.

    Where only some voxels of the axis are ``there``, it has columns for these.
    """
    there = there or slice(0, size)
    matrix = torch.zeros(len(coordinates), there.stop - there.start, dtype=torch.float64)
    low = coordinates.floor()
    for offset, weight in weights(coordinates - low):
        tap = (low.long() + offset).clamp(0, size - 1) - there.start
        matrix.scatter_add_(1, tap[:, None], weight[:, None])
    return matrix


def _keys_weights(part: torch.Tensor) -> _Weights:
    """Yields for places ``part`` behind a voxel the weights of their neighbours, by their distance from that voxel."""
    for offset in (-1, 0, 1, 2):
        d = (part - offset).abs()
        near = (KEYS_A + 2) * d**3 - (KEYS_A + 3) * d**2 + 1
        far = KEYS_A * (d**3 - 5 * d**2 + 8 * d - 4)
        yield offset, torch.where(d <= 1, near, far)


def _spline_weights(part: torch.Tensor) -> _Weights:
    """Yields what ``_keys_weights`` does, of the cardinal cubic spline.

    Its coefficients are the samples, filtered by the inverse of the B-spline's values at the samples (1/6, 4/6, 1/6).
    """
    pieces = ((1 - part) ** 3, 3 * part**3 - 6 * part**2 + 4, 3 * (1 - part) ** 3 - 6 * (1 - part) ** 2 + 4, part**3)
    for offset in range(-SPLINE_REACH, SPLINE_REACH + 2):
        filtered = [3**0.5 * SPLINE_POLE ** abs(offset - place) for place in (-1, 0, 1, 2)]
        yield offset, sum((w * piece for w, piece in zip(filtered, pieces, strict=True)), torch.zeros_like(part)) / 6


class NearestAxes(NamedTuple):
    """Axes along which the nearest voxel is taken.

    Attributes:
        axes: Of an array.
        by_grid_sample: Whether halves are rounded as by MONAI's ``Invertd``.
    """

    axes: tuple[int, ...] = ()
    by_grid_sample: bool = False


ALONG_NO_AXIS = NearestAxes()


def nearest_index(coordinates: torch.Tensor, size: int, by_grid_sample: bool = False) -> torch.Tensor:
    """Returns the voxel next to each place along an axis; of two that are as near, the latter.

    Where new voxels lie between the same outer faces, or between the same outermost centres, their places are computed
    again as nnU-Net and ``scipy.ndimage.zoom`` compute them, so that halves are rounded as there, to the last bit.

    Args:
        coordinates: The places, in voxels, float64.
        size: How many voxels the axis has.
        by_grid_sample: Whether halves are rounded as by MONAI's ``Invertd``.
    """
    n, step = len(coordinates), torch.arange(len(coordinates), dtype=torch.float64)
    if by_grid_sample and n > 1:
        return _by_grid_sample(coordinates, size).round().long().clamp(0, size - 1)  # halves to even ones
    same = (size / max(n, 1) * (step + 0.5) - 0.5, (size - 1) / max(n - 1, 1) * step)
    places = next((each for each in same if torch.allclose(each, coordinates, atol=1e-4, rtol=0)), coordinates + HALF)
    return (places + 0.5).floor().long().clamp(0, size - 1)


def _by_grid_sample(coordinates: torch.Tensor, size: int) -> torch.Tensor:
    """Returns places in the arithmetic of MONAI's ``AffineTransform``, which says how halves are rounded.

    It makes of them places from -1 to 1, by ``affine_grid``, and these voxels again, by ``grid_sample``.
    """
    n = len(coordinates)
    to_ends, of_new = (np.array([[2 / m, 1 / m - 1], [0, 1]]) for m in (size, n))
    shift = float(coordinates[0])
    to_old = np.array([[float(coordinates[1]) - shift, shift], [0, 1]])
    scale, start = (to_ends @ to_old @ np.linalg.inv(of_new))[0].tolist()
    ends = torch.linspace(-1, 1, n, dtype=torch.float64) * (n - 1) / n
    places: torch.Tensor = ((ends * scale + start + 1) * size - 1) / 2
    return places


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
        """Whether each place is that of a voxel, so that nothing is interpolated."""
        return not bool(self.part.any())

    def __getitem__(self, index: slice) -> "Taps":
        return Taps(self.low[index], self.high[index], self.part[index])

    def after(self, start: int) -> "Taps":
        """Returns the same taps, counted in voxels from ``start`` on."""
        return Taps(self.low - start, self.high - start, self.part)

    def to(self, device: torch.device) -> "Taps":
        """Returns the same taps on a device."""
        return Taps(self.low.to(device), self.high.to(device), self.part.to(device))


def taps_at(coordinates: torch.Tensor, size: int, nearest: NearestAxes = ALONG_NO_AXIS, axis: int = 0) -> Taps:
    """Returns the taps of places along an axis.

    Args:
        coordinates: The places, in voxels.
        size: How many voxels the axis has.
        nearest: Axes along which places are moved to the next voxel.
        axis: Along which they lie.
    """
    rounded, index = coordinates.round(), None
    if axis in nearest.axes:
        index = nearest_index(coordinates, size, nearest.by_grid_sample)
    elif torch.allclose(coordinates, rounded, atol=1e-4, rtol=0):
        index = rounded.long().clamp(0, size - 1)
    if index is not None:
        return Taps(index, index, torch.zeros(len(index)))
    low = coordinates.floor()
    index = low.long()
    return Taps(index.clamp(0, size - 1), (index + 1).clamp(0, size - 1), (coordinates - low).float())
