"""The weighted mean of overlapping windows, held only where windows are still to come.

Labels are the innermost axis: so the convolutions write them (channels last), and all labels of a voxel, which decoding
needs together, lie together in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch

from medseg.inferers.windows import Layout, WindowRow
from medseg.volume import Shape3

# Values of a piece that is added at a time on a processor: it stays in the cache, which is ten times as fast.
PIECE = 2**19

LARGEST_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Slab:
    """Finished logits ``(x, y, z, label)`` of the image's voxels ``start`` to ``stop`` along an axis.

    The first ``repeated`` (0 or 1) of them ended the slab before, so that there is a voxel on each side to interpolate
    from.
    """

    logits: torch.Tensor
    axis: int
    start: int
    stop: int
    repeated: int

    @property
    def fresh(self) -> torch.Tensor:
        """The logits without the repeated voxels."""
        return self.logits.narrow(self.axis, self.repeated, self.stop - self.start - self.repeated)

    def planes(self, step: int = 1) -> Iterator[tuple[int, torch.Tensor]]:
        """Yields the index of each plane along the axis, and its logits: what is made of one takes little memory.

        Args:
            step: Of more than 1 those planes only whose index in the image is divided by it.
        """
        first = self.start + self.repeated
        for i in range(first + -first % step, self.stop, step):
            yield i, self.logits.select(self.axis, i - self.start)


@dataclass
class _Segment:
    """Sums of the padded image's voxels ``start`` to ``stop`` along the axis.

    They lie behind room for a voxel of the segment before.
    """

    start: int
    stop: int
    sums: torch.Tensor  # (x, y, z, label)
    weights: torch.Tensor  # (x, y, z), float32


class Accumulator:
    """Sums logits of windows, row by row; ``dtype`` is that of the sums.

    On a GPU that is float32, so that ``add`` and ``finished`` need no memory of their own.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device) -> None:
        self.layout = layout
        self.dtype = dtype
        self.device = device
        rows = layout.rows()
        self._to_come = list(pairwise(sorted({row.start for row in rows} | {row.stop for row in rows})))
        self._weight = layout.weight().to(device)
        self._open: list[_Segment] = []
        self._last = torch.empty(0)  # the last voxels of the segment before

    def open(self, row: WindowRow, n_labels: int) -> None:
        """Makes room for the windows of a row.

        Args:
            row: The windows that come next.
            n_labels: How many outputs the logits have.
        """
        if not self._last.numel():
            self._last = self._zeros(1, n_labels)
        while self._to_come and self._to_come[0][0] < row.stop:
            start, stop = self._to_come[0]
            sums, weights = self._zeros(stop - start + 1, n_labels), self._zeros(stop - start, 1)[..., 0].float()
            self._open.append(_Segment(start, stop, sums, weights))
            self._to_come.pop(0)

    def add(self, logits: torch.Tensor, start: Shape3) -> None:
        """Adds the logits of a window.

        Args:
            logits: ``(label, x, y, z)``, on the accumulator's device.
            start: The first voxel of the window in the padded image.
        """
        axis, logits = self.layout.axis, logits.permute(1, 2, 3, 0)
        for segment in self._open:
            low = max(start[axis], segment.start)
            high = min(start[axis] + self.layout.patch_size[axis], segment.stop)
            if low >= high:
                continue
            place = [slice(first, first + n) for first, n in zip(start, self.layout.patch_size, strict=True)]
            place[axis] = slice(low - segment.start, high - segment.start)
            x, y, z = place
            sums = segment.sums.narrow(axis, 1, segment.stop - segment.start)[x, y, z]
            own = (axis, low - start[axis], high - low)
            _add(sums, segment.weights[x, y, z], logits.narrow(*own), self._weight.narrow(*own))

    def as_summed(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the logits of windows as they count in the sums: by nnU-Net's rule, rounded as there.

        It adds weighted logits in float16. Where a window weighs next to nothing, which at the edges of an image no
        other makes good, little is left of them: at a weight of 1e-7 multiples of a half. The sums themselves are in
        float32 here, which is within a thousandth of theirs.

        Args:
            logits: ``(…, label, x, y, z)``, on any device; they are overwritten.
        """
        if self.layout.rule != "nnunet":
            return logits
        weight = self._weight.to(logits.device)
        weighted = logits.float().mul_(weight).clamp_(-LARGEST_HALF, LARGEST_HALF)
        return weighted.copy_(weighted.half()).div_(weight)

    def finished(self, start: int) -> Iterator[Slab]:
        """Yields the means of what lies before ``start``, from where on there are windows to come."""
        while self._open and self._open[0].stop <= start:
            yield self._mean(self._open.pop(0))

    def _mean(self, segment: _Segment) -> Slab:
        axis, height = self.layout.axis, segment.stop - segment.start
        _divide(segment.sums.narrow(axis, 1, height), segment.weights)
        segment.sums.narrow(axis, 0, 1).copy_(self._last)
        self._last.copy_(segment.sums.narrow(axis, height, 1))
        # Voxels that were added around a small image go again.
        logits = segment.sums
        for other in range(3):
            if other != axis:
                logits = logits.narrow(other, self.layout.before[other], self.layout.shape[other])
        # Along the axis there are such voxels only where a single segment holds the whole image.
        before, repeated = self.layout.before[axis], int(segment.start > 0)
        start, stop = max(segment.start - before, 0), min(segment.stop - before, self.layout.shape[axis])
        logits = logits.narrow(axis, start + before - segment.start + 1 - repeated, stop - start + repeated)
        return Slab(logits, axis, start - repeated, stop, repeated)

    def move(self, device: torch.device) -> None:
        """Takes what there is to another device."""
        self.device = device
        self._weight, self._last = self._weight.to(device), self._last.to(device)
        for segment in self._open:
            segment.sums, segment.weights = segment.sums.to(device), segment.weights.to(device)

    def _zeros(self, height: int, n_labels: int) -> torch.Tensor:
        shape = list(self.layout.padded_shape)
        shape[self.layout.axis] = height
        return torch.zeros([*shape, n_labels], dtype=self.dtype, device=self.device)


def _add(sums: torch.Tensor, weights: torch.Tensor, logits: torch.Tensor, weight: torch.Tensor) -> None:
    weights += weight
    for piece in _pieces(sums):
        if sums.dtype == torch.float32:
            sums[piece].addcmul_(logits[piece].float(), weight[piece][..., None])
        else:
            sums[piece] = (logits[piece].float() * weight[piece][..., None]).add_(sums[piece])


def _divide(sums: torch.Tensor, weights: torch.Tensor) -> None:
    for piece in _pieces(sums):
        if sums.dtype == torch.float32:
            sums[piece].div_(weights[piece][..., None])
        else:
            sums[piece] = sums[piece].float() / weights[piece][..., None]


def _pieces(array: torch.Tensor) -> list[slice]:
    """Returns slices of the first axis that are worked on at a time."""
    if array.is_cuda:
        return [slice(None)]
    step = max(1, PIECE // max(1, prod(array.shape[1:])))
    return [slice(i, i + step) for i in range(0, array.shape[0], step)]
