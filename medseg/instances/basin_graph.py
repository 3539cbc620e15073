"""Basins of an image, the passes between them, and the objects that they make: a minimum spanning forest."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Index = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float32]


class Passes(NamedTuple):
    """Where two basins touch: both of them, and the highest score at which that is possible."""

    one: Index
    other: Index
    height: Reals


class BasinMeasures(NamedTuple):
    """What is known of some basins: their number of voxels by value, their first voxel, their highest score."""

    basin: Index
    by_value: Index  # (basin, network value)
    first: Index
    peak: Reals

    def taken(self, which: Index) -> "BasinMeasures":
        """Returns those of some of the basins, in another order."""
        return BasinMeasures(self.basin[which], self.by_value[which], self.first[which], self.peak[which])


@dataclass(frozen=True)
class ObjectTable:
    """Objects in the order of their first voxels.

    Attributes:
        numbers: Of the object of each basin, from 1; 0: it belongs to none.
        values: The network value that most voxels of an object have, ``(object,)``.
        voxels: How many each has.
        peaks: The highest score of each.
    """

    numbers: Index
    values: Index
    voxels: Index
    peaks: Reals


@dataclass
class BasinGraph:
    """Gathers basins, which are numbered from 0, slab by slab."""

    n: int = 0
    _seeded: list[tuple[int, int]] = field(default_factory=list)  # ranges of numbers
    _same: list[tuple[Index, Index]] = field(default_factory=list)
    _passes: list[Passes] = field(default_factory=list)
    _measures: list[BasinMeasures] = field(default_factory=list)

    def new(self, n: int, *, seeded: bool) -> Index:
        """Returns the numbers of ``n`` new basins, with or without a seed."""
        self.n += n
        if seeded:
            self._seeded.append((self.n - n, self.n))
        return np.arange(self.n - n, self.n)

    def join(self, one: Index, other: Index) -> None:
        """Notes that basins are the same ones, pair by pair."""
        pairs = np.unique(np.stack([one, other]), axis=1)
        self._same.append((pairs[0], pairs[1]))

    def add_passes(self, passes: Passes) -> None:
        """Notes where basins touch."""
        self._passes.append(_highest(passes))

    def add_measures(self, measures: BasinMeasures) -> None:
        """Notes what belongs to basins."""
        self._measures.append(measures)

    def objects(self, smallest: int) -> ObjectTable:
        """Returns the objects that have a seed, and at least ``smallest`` voxels."""
        same = [np.concatenate(each) if each else np.zeros(0, np.int64) for each in zip(*self._same, strict=True)]
        one, other = same or (np.zeros(0, np.int64),) * 2
        links = coo_array((np.ones(len(one), bool), (one, other)), (self.n, self.n))
        n, basin = connected_components(links, directed=False)
        measured = _summed(self._measures, basin.astype(np.int64), n)
        seeded = np.zeros(n, bool)
        for start, stop in self._seeded:
            seeded[basin[start:stop]] = True
        # By their first voxels, so that nothing depends on the slabs in which basins were found.
        order = np.argsort(measured.first, kind="stable")
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)
        tree = np.arange(n)
        if self._passes:
            one, other, height = (np.concatenate(each) for each in zip(*self._passes, strict=True))
            tree = _spanning_forest(_highest(Passes(rank[basin[one]], rank[basin[other]], height)), seeded[order])
        return _table(rank[basin], tree, seeded[order], measured.taken(order), smallest)


def _highest(passes: Passes) -> Passes:
    """Returns each pass once, with its largest height, in the order of the basins; none from a basin to itself."""
    low, high = np.minimum(passes.one, passes.other), np.maximum(passes.one, passes.other)
    pair = low << 32 | high  # basins are numbered in fewer than 32 bits
    order = np.argsort(pair)
    pair, height = pair[order], passes.height[order]
    first = np.flatnonzero(np.append(True, pair[1:] != pair[:-1])) if len(pair) else np.zeros(0, np.int64)
    highest = np.maximum.reduceat(height, first) if len(pair) else height
    low, high = pair[first] >> 32, pair[first] & (2**32 - 1)
    return Passes(low[low != high], high[low != high], highest[low != high])


def _spanning_forest(passes: Passes, seeded: npt.NDArray[np.bool_]) -> Index:
    """Returns for each basin which one stands for its tree (Kruskal 1956; no tree gets two seeds)."""
    tree, has_seed = list(range(len(seeded))), seeded.tolist()

    def top(basin: int) -> int:
        while tree[basin] != basin:
            tree[basin] = tree[tree[basin]]
            basin = tree[basin]
        return basin

    order = np.lexsort((passes.other, passes.one, -passes.height))
    for one, other in zip(passes.one[order].tolist(), passes.other[order].tolist(), strict=True):
        low, high = sorted((top(one), top(other)))
        if low != high and not (has_seed[low] and has_seed[high]):
            tree[high] = low
            has_seed[low] = has_seed[low] or has_seed[high]
    return np.array([top(basin) for basin in range(len(tree))], np.int64)


def _summed(parts: list[BasinMeasures], basin: Index, n: int) -> BasinMeasures:
    """Returns the measures of ``n`` basins, of which ``basin`` says which one each number is."""
    n_values = max((part.by_value.shape[1] for part in parts), default=1)
    by_value, first = np.zeros((n, n_values), np.int64), np.full(n, np.iinfo(np.int64).max)
    peak = np.zeros(n, np.float32)
    for part in parts:
        own = basin[part.basin]
        np.add.at(by_value[:, : part.by_value.shape[1]], own, part.by_value)
        np.minimum.at(first, own, part.first)
        np.maximum.at(peak, own, part.peak)
    return BasinMeasures(np.arange(n), by_value, first, peak)


def _table(
    basin: Index, tree: Index, seeded: npt.NDArray[np.bool_], measured: BasinMeasures, smallest: int
) -> ObjectTable:
    """Returns the objects of trees of basins, all in the order of first voxels."""
    n = len(tree)
    by_value, has_seed, peak = np.zeros_like(measured.by_value), np.zeros(n, bool), np.zeros(n, np.float32)
    np.add.at(by_value, tree, measured.by_value)
    np.maximum.at(peak, tree, measured.peak)
    has_seed[tree[seeded]] = True
    is_object = has_seed & (by_value.sum(1) >= smallest)
    number = np.cumsum(is_object) * is_object
    return ObjectTable(number[tree][basin], by_value[is_object].argmax(1), by_value[is_object].sum(1), peak[is_object])
