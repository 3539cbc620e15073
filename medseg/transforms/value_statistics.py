"""What normalization asks of a whole image, gathered block by block: means, deviations, extremes, where it is not zero.

Numbers are those of ``medseg.transforms.prepared``, which has the whole image in memory, but for the rounding of sums.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from medseg.errors import SourceError
from medseg.plan import Normalization
from medseg.records import Record
from medseg.transforms.extremes import extremes_of, sampled_places, suspected
from medseg.transforms.intensities import quantiles_of_sample
from medseg.volume import Array, Box, Shape3

VOXELS_AT_ONCE = 2**23  # that are read
EDGE = 128  # blocks end where chunks of most files do

Read = Callable[[Box], Array]  # voxels (channel, x, y, z) of a box


class ChannelStatistics(Record):
    """What is known of the values of one channel.

    Attributes:
        lowest: The lowest value.
        highest: The highest one.
        has_zero: Whether a voxel is zero.
        mean: Of all voxels, or of those that are not zero, by the rule of its normalization.
        std: Their deviation.
        clip: Between which values a few extreme ones are brought; None where there are none.
        oddity: What is said of these.
        quantiles: Of a sample of the values.
    """

    lowest: float
    highest: float
    has_zero: bool
    mean: float
    std: float
    clip: tuple[float, float] | None = None
    oddity: str = ""
    quantiles: tuple[float, ...] = ()


class ImageStatistics(Record):
    """What is known of the values of an image.

    Attributes:
        channels: One a channel.
        nonzero: The box ``(x, y, z)`` in which a channel is not zero: the first voxels and those behind the last ones;
            all voxels where nothing is.
    """

    channels: tuple[ChannelStatistics, ...]
    nonzero: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def boxes_of(shape: Shape3, edges: Shape3) -> list[Box]:
    """Returns the boxes of a grid, in the order of its axes; the last ones may be smaller.

    Args:
        shape: Of the grid.
        edges: Of a box, in voxels.
    """
    starts = [range(0, n, edge) for n, edge in zip(shape, edges, strict=True)]
    ends = zip(shape, edges, strict=True)
    (a, da), (b, db), (c, dc) = ends
    return [
        (slice(x, min(x + da, a)), slice(y, min(y + db, b)), slice(z, min(z + dc, c))) for x, y, z in product(*starts)
    ]


def reading_boxes(shape: Shape3) -> list[Box]:
    """Returns boxes in which a whole volume is read once: as long as possible along x, where voxels lie together."""
    edges = list(shape)
    for axis in (2, 1, 0):
        others = int(np.prod([n for i, n in enumerate(edges) if i != axis]))
        if others * edges[axis] > VOXELS_AT_ONCE:
            fitting = max(1, VOXELS_AT_ONCE // others)
            edges[axis] = min(edges[axis], max(EDGE, fitting // EDGE * EDGE))
    return boxes_of(shape, (edges[0], edges[1], edges[2]))


def image_statistics(
    read: Read, shape: Shape3, rules: Sequence[Normalization], boxes: Iterable[Box] | None = None
) -> ImageStatistics:
    """Returns what is known of an image after one look at each of its voxels; after more where some are extreme.

    Args:
        read: Reads a box.
        shape: Of the image.
        rules: How each channel is normalized.
        boxes: Those that are read, together the image; None: some that take little memory.

    Raises:
        SourceError: Voxels are no numbers.

    Examples:
        >>> import numpy as np
        >>> from medseg.plan import Normalization
        >>> image = np.arange(24.0).reshape(1, 2, 3, 4)
        >>> found = image_statistics(lambda box: image[:, *box], (2, 3, 4), [Normalization(kind="zscore")])
        >>> found.channels[0].mean, found.nonzero
        (11.5, ((0, 2), (0, 3), (0, 4)))
    """
    boxes = reading_boxes(shape) if boxes is None else list(boxes)
    places = np.unravel_index(sampled_places(int(np.prod(shape))), shape, order="F")
    sums = [_Sums(rule, np.zeros(len(places[0]))) for rule in rules]
    occupied = [np.zeros(n, dtype=bool) for n in shape]
    n_odd = 0
    for box in boxes:
        values = read(box)
        if values.dtype.kind == "f":
            n_odd += int(values.size - np.isfinite(values).sum())
        nonzero = (values != 0).any(0)
        for axis, part in enumerate(box):
            occupied[axis][part] |= nonzero.any(tuple({0, 1, 2} - {axis}))
        inside = np.all([(p >= b.start) & (p < b.stop) for p, b in zip(places, box, strict=True)], axis=0)
        at = tuple(p[inside] - b.start for p, b in zip(places, box, strict=True))
        for channel, each in zip(values, sums, strict=True):
            each.add(channel)
            each.sample[inside] = channel[at]
    if n_odd:
        raise SourceError(f"number of voxels that are NaN or infinite: {n_odd}; replace them, for instance by 0")
    channels = [_channel(read, boxes, i, each) for i, each in enumerate(sums)]
    x, y, z = (_extent(each) for each in occupied)
    return ImageStatistics(channels=tuple(channels), nonzero=(x, y, z))


@dataclass
class _Sums:
    """Sums over the voxels of a channel so far; means and squares are merged by Chan's rule (Chan et al. 1979)."""

    rule: Normalization
    sample: Array
    n: int = 0
    n_zero: int = 0
    mean: float = 0.0
    squares: float = 0.0
    lowest: float = np.inf
    highest: float = -np.inf
    clip: tuple[float, float] | None = None

    def add(self, channel: Array) -> None:
        values = channel.ravel(order="K")
        if self.clip is not None:
            values = values.clip(*(values.dtype.type(end) for end in self.clip))
        self.lowest, self.highest = min(self.lowest, float(values.min())), max(self.highest, float(values.max()))
        zero = values == 0
        self.n_zero += int(zero.sum())
        values = values[~zero] if self.rule.nonzero else values
        if self.rule.kind != "zscore" or not len(values):
            return
        values = values.astype(np.float32).astype(np.float64)
        mean, n = float(values.mean()), len(values)
        values -= mean
        apart = mean - self.mean
        self.squares += float(values @ values) + apart**2 * self.n * n / (self.n + n)
        self.mean += apart * n / (self.n + n)
        self.n += n


def _channel(read: Read, boxes: Sequence[Box], i: int, sums: _Sums) -> ChannelStatistics:
    found = None
    if sums.rule.kind == "zscore" and sums.lowest < sums.highest:
        suspicion = suspected(sums.lowest, sums.highest, sums.sample, sums.rule.nonzero)
        if suspicion is not None:
            blocks = _values(read, boxes, i, sums.rule.nonzero)
            found = extremes_of(blocks, sums.n, (sums.lowest, sums.highest), suspicion)
    oddity = ""
    if found is not None:
        oddity = f"{found}; {'it was' if found.n == 1 else 'they were'} clipped to that range"
        clip = found.lowest, found.highest
        again = _Sums(sums.rule, sums.sample.clip(*clip), clip=clip)
        for box in boxes:
            again.add(read(box)[i])
        sums = again
    return ChannelStatistics(
        lowest=sums.lowest,
        highest=sums.highest,
        has_zero=sums.n_zero > 0,
        mean=sums.mean,
        std=(sums.squares / sums.n) ** 0.5 if sums.n else 0.0,
        clip=sums.clip,
        oddity=oddity,
        quantiles=tuple(quantiles_of_sample(sums.sample).tolist()),
    )


def _values(read: Read, boxes: Sequence[Box], i: int, nonzero: bool) -> Callable[[], Iterator[Array]]:
    """Returns what yields the values of a channel, block by block, as often as it is called."""

    def values() -> Iterator[Array]:
        for box in boxes:
            block = read(box)[i].ravel(order="K").astype(np.float64)
            yield block[block != 0] if nonzero else block

    return values


def _extent(occupied: Array) -> tuple[int, int]:
    places = np.flatnonzero(occupied)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(occupied))
