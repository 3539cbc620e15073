"""A few voxels whose values are so large that nothing else of the image would be left beside them.

Damaged files, and tools that mark voxels by 1e30, have such ones. One of them decides the mean and the standard
deviation of a whole volume.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.plan import Normalization
from medseg.volume import Array

# Of each case and channel; of so many, the part below any value is known to a third of a percent.
SAMPLED_VOXELS = 20_000
# A standard deviation of so many times what 98 of 100 voxels span isn't that of these voxels.
FACTOR = 10.0
# So many voxels, or this part of all if that is more, may be extremes; what more of them have is a part of the image.
MOST_VOXELS = 10
MOST_PART = 1e-5


@dataclass(frozen=True)
class Extremes:
    """A few values that lie far from all others.

    There are ``n`` voxels beyond ``lowest`` and ``highest``, the range of all others; ``worst`` lies furthest away.
    """

    n: int
    worst: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        voxels = f"{self.n} voxel has an extreme value" if self.n == 1 else f"{self.n} voxels have extreme values"
        return (
            f"{voxels}, up to {self.worst:.4g}, where all others lie between {self.lowest:.4g} and {self.highest:.4g}"
        )


def find_extremes(channel: Array, nonzero: bool = False) -> Extremes | None:
    """Returns the extremes of a channel; None where there are none.

    There are none nearly always, and that is seen from the lowest and the highest value and a sample.

    Args:
        channel: (x, y, z), of any type of numbers.
        nonzero: Whether zeros are left out, as a normalization over non-zero voxels leaves them out.

    Examples:
        >>> import numpy as np
        >>> channel = np.arange(1000.0).reshape(10, 10, 10)
        >>> find_extremes(channel) is None
        True
        >>> channel[5, 5, 5] = -1e9
        >>> find_extremes(channel).n
        1
    """
    flat = channel.ravel(order="K")
    ends = float(flat.min()), float(flat.max())
    suspicion = suspected(*ends, flat[sampled_places(flat.size)].astype(np.float64), nonzero)
    if suspicion is None:
        return None
    values = flat.astype(np.float64)
    values = values[values != 0] if nonzero else values
    return extremes_of(lambda: [values], values.size, ends, suspicion)


def extremes_of(
    blocks: Callable[[], Iterable[Array]], size: int, ends: tuple[float, float], suspicion: tuple[float, float, float]
) -> Extremes | None:
    """Returns the extremes of a channel that may have some; None where it has none. It takes two looks at the values.

    Args:
        blocks: Yields the values that count, float64, block by block, as often as it is called.
        size: How many values these are.
        ends: The lowest and the highest of them.
        suspicion: What ``suspected`` returned.
    """
    low, middle, high = suspicion
    most = max(MOST_VOXELS, round(MOST_PART * size))
    if size <= 2 * most:
        return None
    far, everything = np.zeros(0), _Deviation(middle, max(ends[1] - middle, middle - ends[0]))
    for block in blocks():
        everything.add(block)
        far = np.concatenate([far, _furthest(block, middle, most + 1)])
        far = _furthest(far, middle, most + 1)
    far = far[np.argsort(np.abs(far - middle))]
    # What lies beyond the largest gap between them is extreme, and the others are the last ones of the image.
    distances = np.maximum(np.abs(far - middle), high - low)
    gaps = distances[1:] / distances[:-1]
    extreme = far[int(np.argmax(gaps)) + 1 :]
    if gaps.max() == 1 or everything.value <= FACTOR * (high - low):
        return None
    nearest = float(np.abs(extreme[0] - middle))
    rest, lowest, highest = _Deviation(middle, nearest), np.inf, -np.inf
    for block in blocks():
        near = block[np.abs(block - middle) < nearest]
        rest.add(near)
        lowest, highest = min(lowest, near.min(initial=np.inf)), max(highest, near.max(initial=-np.inf))
    if rest.value > FACTOR * (high - low):
        return None
    return Extremes(len(extreme), float(extreme[-1]), float(lowest), float(highest))


def _furthest(values: Array, middle: float, n: int) -> Array:
    """Returns the ``n`` values that lie furthest from the median, in any order; all where there are no more."""
    if len(values) <= n:
        return values
    return values[np.argpartition(np.abs(values - middle), len(values) - n)[len(values) - n :]]


def sampled_places(n_voxels: int) -> Array:
    """Returns which voxels of so many are a sample of them, the same ones each time; all of them where they are few."""
    if n_voxels <= SAMPLED_VOXELS:
        return np.arange(n_voxels)
    # Not every n-th voxel, which may be one column of all slices. A fixed seed: the same image gives the same.
    return np.random.default_rng(0).integers(0, n_voxels, SAMPLED_VOXELS)


def suspected(lowest: float, highest: float, sample: Array, nonzero: bool) -> tuple[float, float, float] | None:
    """Returns the 1st, 50th and 99th percentile of a channel that may have extremes; None where it has none.

    Args:
        lowest: The lowest value of all voxels.
        highest: The highest one.
        sample: Some of the values.
        nonzero: Whether zeros are left out.
    """
    sample = sample[sample != 0] if nonzero else sample
    low, middle, high = np.percentile(sample, (1, 50, 99)) if sample.size else (0.0, 0.0, 0.0)
    # Where 98 of 100 voxels are equal, the few others are what the image shows.
    if not high > low or max(highest - middle, middle - lowest) <= FACTOR * (high - low):
        return None
    return float(low), float(middle), float(high)


@dataclass
class _Deviation:
    """The deviation of values from their median, in units of the largest one, which keep squares within floats."""

    middle: float
    largest: float
    n: int = 0
    squares: float = 0.0

    def add(self, values: Array) -> None:
        deviations = np.abs(values - self.middle) / (self.largest or 1.0)
        self.squares, self.n = self.squares + float(deviations @ deviations), self.n + len(values)

    @property
    def value(self) -> float:
        return self.largest * math.sqrt(self.squares / max(self.n, 1))


def without_extremes(array: Array, rules: Sequence[Normalization]) -> tuple[Array, dict[int, str]]:
    """Returns the array with extremes clipped to the range of all other voxels, and what was done.

    Only channels that are normalized by their own mean and deviation are looked at.

    Args:
        array: (channel, x, y, z), of any type of numbers; it stays as it is.
        rules: One a channel.

    Returns:
        The clipped array, or the very ``array`` where there are no extremes; and a sentence for each channel that was
        changed, by its index.
    """
    notes: dict[int, str] = {}
    for i, rule in enumerate(rules):
        found = find_extremes(array[i], rule.nonzero) if rule.kind == "zscore" else None
        if found is not None:
            array = array.copy() if not notes else array
            lowest, highest = array.dtype.type(found.lowest), array.dtype.type(found.highest)  # values of the image
            np.clip(array[i], lowest, highest, out=array[i])
            notes[i] = f"{found}; {'it was' if found.n == 1 else 'they were'} clipped to that range"
    return array, notes
