"""Basins of an image, the passes between them, and the objects that they make: a minimum spanning forest.

The forest grows slab by slab. A basin that is known wholly joins the neighbour over its highest pass, which is an edge
of the forest whatever comes later (Borůvka 1926). So only basins that reach into the next slab have to be remembered,
and their passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.signedinteger[Any]]
Reals = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
NONE = -1  # no basin


class Passes(NamedTuple):
    """Where two basins touch.

    Attributes:
        one: A basin.
        other: Another one.
        height: The lower score of the two voxels that touch.
        place: Which voxels these are: of equal heights the pass with the smallest number is the highest.
    """

    one: Index
    other: Index
    height: Reals
    place: Index

    def taken(self, which: Index) -> "Passes":
        """Returns some of the passes, in another order."""
        return Passes(self.one[which], self.other[which], self.height[which], self.place[which])

    @classmethod
    def joined(cls, parts: "Sequence[Passes]") -> "Passes":
        """Returns the passes of all parts."""
        arrays: list[Any] = [np.concatenate(each) for each in zip(*parts, strict=True)]
        return cls(*arrays)

    def highest(self) -> "Passes":
        """Returns the highest pass between each two basins."""
        if not len(self.one):
            return self
        pair = np.minimum(self.one, self.other).astype(np.int64) << 32 | np.maximum(self.one, self.other)
        order = np.argsort(pair)
        pair = pair[order]
        first = np.flatnonzero(np.append(True, pair[1:] != pair[:-1]))
        height, place = self.height[order], self.place[order]
        top = np.maximum.reduceat(height, first)
        is_top = height == np.repeat(top, np.diff(np.append(first, len(pair))))
        place = np.minimum.reduceat(np.where(is_top, place, np.iinfo(np.int64).max), first)
        return Passes(pair[first] >> 32, pair[first] & (2**32 - 1), top, place)


class BasinMeasures(NamedTuple):
    """What is known of some basins: their number of voxels by value, their first voxel, their highest score."""

    by_value: Index  # (basin, network value)
    first: Index
    peak: Reals

    @classmethod
    def joined(cls, parts: "Sequence[BasinMeasures]") -> "BasinMeasures":
        """Returns the measures of all parts; each may know other values."""
        width = max(part.by_value.shape[1] for part in parts)
        by_value = [np.pad(part.by_value, ((0, 0), (0, width - part.by_value.shape[1]))) for part in parts]
        first, peak = (np.concatenate(each) for each in zip(*(part[1:] for part in parts), strict=True))
        return cls(np.concatenate(by_value), first, peak)

    def taken(self, which: Index | Bools) -> "BasinMeasures":
        """Returns those of some of the basins, in another order."""
        return BasinMeasures(self.by_value[which], self.first[which], self.peak[which])

    def summed(self, group: Index, n: int) -> "BasinMeasures":
        """Returns the measures of ``n`` groups of these basins, of which ``group`` has the number of each."""
        result = no_measures(n, self.by_value.shape[1])
        np.add.at(result.by_value, group, self.by_value)
        np.minimum.at(result.first, group, self.first)
        np.maximum.at(result.peak, group, self.peak)
        return result


class FoundBasins(NamedTuple):
    """The basins of some planes: first those of :attr:`BasinGraph.is_seeded`, then those that are new.

    Attributes:
        is_seeded: Which have a seed.
        goes_on: Which reach the next planes.
        measures: Of their voxels in these planes.
        same: Pairs of basins that are one, ``(2, pair)``.
        passes: Between the basins.
    """

    is_seeded: Bools
    goes_on: Bools
    measures: BasinMeasures
    same: Index
    passes: Passes


@dataclass(frozen=True)
class ObjectTable:
    """Objects in the order of their first voxels.

    Attributes:
        numbers: Of the object of each number that :meth:`BasinGraph.add` gave, from 1; 0: it belongs to none.
        values: The network value that most voxels of an object have, ``(object,)``.
        voxels: How many each has.
        peaks: The highest score of each.
    """

    numbers: Index
    values: Index
    voxels: Index
    peaks: Reals


class BasinGraph:
    """Gathers basins slab by slab, and remembers those that may still change.

    Attributes:
        is_seeded: Which of the basins that are remembered have a seed.
    """

    def __init__(self) -> None:
        self.is_seeded: Bools = np.zeros(0, bool)
        self._numbers: Index = np.zeros(0, np.int64)
        self._measures = no_measures(0, 1)
        none = np.zeros(0, np.int64)
        self._passes = Passes(none, none, np.zeros(0, np.float32), none)
        self._n = 0  # numbers that were given
        self._merged: list[Index] = []  # pairs of a number and the one that took its place; 0: none
        self._done: list[tuple[Index, BasinMeasures]] = []  # of basins with a seed, by their numbers

    def add(self, found: FoundBasins) -> tuple[Index, Index]:
        """Adds the basins of a slab, and lets those join others of which that is sure.

        Args:
            found: The basins.

        Returns:
            Of each basin the number that stands for it in the image (0: it will be of no object), and its place among
            those that are remembered (``NONE``: it is not).
        """
        tree, is_seeded, goes_on, passes = _forest(found, Passes.joined([self._passes, found.passes]))
        of_known = tree[: len(self._numbers)]
        number = self._number(of_known, is_seeded | goes_on)

        measures = BasinMeasures.joined([self._measures, found.measures]).summed(np.append(of_known, tree), len(number))
        is_done = is_seeded & ~goes_on & measures.by_value.any(1)
        self._done.append((number[is_done].astype(np.int32), measures.taken(is_done)))
        measures.by_value[is_done], measures.peak[is_done] = 0, 0
        measures.first[is_done] = np.iinfo(np.int64).max

        kept = goes_on.copy()
        kept[passes.one] = kept[passes.other] = True
        place = np.where(kept, np.cumsum(kept) - 1, NONE)
        self.is_seeded, self._numbers, self._measures = is_seeded[kept], number[kept], measures.taken(kept)
        self._passes = passes._replace(one=place[passes.one], other=place[passes.other])
        return number[tree], place[tree]

    def _number(self, of_known: Index, lives: Bools) -> Index:
        """Returns the number of each tree, 0 for those that will be of no object; one it has already, else a new one.

        Args:
            of_known: The trees of the basins that are remembered.
            lives: Which trees may be of an object.
        """
        number = np.zeros(len(lives), np.int64)
        number[of_known] = self._numbers
        number[~lives] = 0
        is_new = lives & (number == 0)
        number[is_new] = self._n + 1 + np.arange(is_new.sum())
        self._n += int(is_new.sum())
        changed = number[of_known] != self._numbers
        pairs = np.stack([self._numbers[changed], number[of_known][changed]])
        self._merged.append(pairs.astype(np.int32))
        return number

    def objects(self, smallest: int) -> ObjectTable:
        """Returns the objects of at least ``smallest`` voxels, after the last slab."""
        root = np.arange(self._n + 1, dtype=np.int32)
        for number, instead in self._merged:
            root[number] = instead
        while not np.array_equal(further := root[root], root):
            root = further
        numbers = np.concatenate([np.zeros(0, np.int32), *(number for number, _ in self._done)])
        roots, own = np.unique(root[numbers], return_inverse=True)
        measures = BasinMeasures.joined([no_measures(0, 1), *(each for _, each in self._done)]).summed(own, len(roots))
        which = np.flatnonzero(measures.by_value.sum(1) >= smallest)
        which = which[np.argsort(measures.first[which])]
        measures = measures.taken(which)
        of_root = np.zeros(self._n + 1, np.int32)
        of_root[roots[which]] = 1 + np.arange(len(which))
        return ObjectTable(of_root[root], measures.by_value.argmax(1), measures.by_value.sum(1), measures.peak)


def no_measures(n: int, n_values: int) -> BasinMeasures:
    """Returns the measures of ``n`` basins without a voxel."""
    first = np.full(n, np.iinfo(np.int64).max)
    return BasinMeasures(np.zeros((n, n_values), np.int64), first, np.zeros(n, np.float32))


def _forest(found: FoundBasins, passes: Passes) -> tuple[Index, Bools, Bools, Passes]:
    """Lets basins join that are known wholly, over their highest passes, until they reach a seed or the next planes.

    Args:
        found: The basins.
        passes: All passes between them.

    Returns:
        The tree of each basin; which trees have a seed; which go on in the next planes; the passes between trees that
        may still matter.
    """
    tree, is_seeded, goes_on = np.arange(len(found.is_seeded)), found.is_seeded, found.goes_on
    passes = passes.taken(np.lexsort((passes.place, -passes.height)))
    one, other = found.same
    while True:
        n, merged = _components(one, other, len(is_seeded))
        tree, is_seeded, goes_on = merged[tree], _any_of(is_seeded, merged, n), _any_of(goes_on, merged, n)
        passes = _between(passes._replace(one=merged[passes.one], other=merged[passes.other]), is_seeded)
        best = np.full(n, len(passes.one))
        for ends in (passes.one, passes.other):
            np.minimum.at(best, ends, np.arange(len(ends)))
        over = best[~is_seeded & ~goes_on & (best < len(passes.one))]
        if not len(over):
            return tree, is_seeded, goes_on, passes
        one, other = passes.one[over], passes.other[over]


def _components(one: Index, other: Index, n: int) -> tuple[int, Index]:
    from scipy.sparse import coo_array  # takes long to import, and most models find no objects
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(one), bool), (one, other)), (n, n))
    n_components, of = connected_components(links, directed=False)
    return n_components, of.astype(np.int64)


def _any_of(flags: Bools, group: Index, n: int) -> Bools:
    result = np.zeros(n, bool)
    result[group[flags]] = True
    return result


def _between(passes: Passes, is_seeded: Bools) -> Passes:
    """Returns of passes, the highest first, those that a forest can use: one a pair of trees, where seeds count as one.

    A tree joins one seed at most, and none joins two: of its passes to seeds only the highest can matter.
    """
    n = len(is_seeded)
    one, other = (np.where(is_seeded[ends], n, ends) for ends in (passes.one, passes.other))
    apart = np.flatnonzero(one != other)
    pair = np.minimum(one[apart], other[apart]) * (n + 1) + np.maximum(one[apart], other[apart])
    return passes.taken(apart[np.sort(np.unique(pair, return_index=True)[1])])
