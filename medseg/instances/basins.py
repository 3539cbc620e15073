"""Basins of some planes of an image: where each voxel gets to that goes to the highest of its neighbours, and again."""

from dataclasses import dataclass
from itertools import product
from typing import Final

import cc3d
import numpy as np

from medseg.instances.basin_graph import NONE, BasinGraph, BasinMeasures, Bools, FoundBasins, Index, Passes
from medseg.volume import Array, Shape3

OUTSIDE = -1.0  # the score where there is no object: lower than any other
FACES: Final = 6  # neighbours of a voxel that share a face
NEIGHBOURHOOD = list(product((-1, 0, 1), repeat=3))  # in the order of an array


@dataclass(frozen=True)
class Seam:
    """What is known of the last plane that is done, when the next ones are looked at. All are ``(x, y, z)``.

    Attributes:
        score: Of the plane.
        basins: Of its voxels, among those that the graph remembers; ``NONE`` where there is no object.
        expected: Of each voxel of the plane behind it: the basin that leads there, else ``NONE``.
    """

    score: Array
    basins: Index
    expected: Index


class Planes:
    """Some planes, between the plane before and the plane behind them.

    Args:
        axis: Along which planes follow each other.
        values: ``(x, y, z)``: network values of labels.
        score: Of these planes; ``OUTSIDE`` where there is no object.
        seam: Of the plane before them; None: there is none.
        behind: The score of the plane behind them; None: there is none.
    """

    def __init__(self, axis: int, values: Array, score: Array, seam: Seam | None, behind: Array | None) -> None:
        self.axis, self.values, self.seam = axis, values, seam
        parts = ([] if seam is None else [seam.score]) + [score] + ([] if behind is None else [behind])
        self.score = np.pad(np.concatenate(parts, axis), 1, constant_values=OUTSIDE).astype(np.float32, copy=False)
        self.first = 1 + (seam is not None)  # of the planes themselves, in the padded array
        self.stop = self.first + score.shape[axis]
        self.has_behind = behind is not None
        self.basins: Index = np.full(self.score.shape, NONE, np.int32)

    def find(self, graph: BasinGraph, threshold: float, first_plane: int, shape: Shape3) -> tuple[Index, Seam | None]:
        """Finds the basins of these planes, and adds them to a graph.

        Args:
            graph: Is told of basins, which of them are one, and of passes between them.
            threshold: Of seeds.
            first_plane: The place of the planes in the image.
            shape: Of the image.

        Returns:
            The number of each voxel's basin in the graph ``(x, y, z)``, 0 for none, and what the next planes have to
            know; None: there are none.
        """
        n_known = len(graph.is_seeded)
        seeds = cc3d.connected_components(self._of(self.score) >= threshold, connectivity=FACES)
        n_seeds = int(seeds.max(initial=0))
        of_seed = np.append(NONE, n_known + np.arange(n_seeds)).astype(np.int32)
        self._of(self.basins)[:] = of_seed[seeds]
        if self.seam is not None:
            self._plane(self.basins, self.first - 1)[:] = self.seam.basins
        n_others = self._climb(n_known + n_seeds)
        is_seeded = np.concatenate([graph.is_seeded, np.ones(n_seeds, bool), np.zeros(n_others, bool)])
        expected = self._plane(self.basins, self.stop).copy()
        self._plane(self.basins, self.stop)[:] = NONE  # the next planes know what is there
        last = self._plane(self.basins, self.stop - 1).copy()
        goes_on = np.zeros(len(is_seeded) + 1, bool)  # the last one is that of NONE
        if self.has_behind:
            goes_on[last] = goes_on[expected] = True
        measures = self._measures(len(is_seeded), first_plane, shape)
        passes = self._passes(is_seeded, first_plane, shape)
        found = FoundBasins(is_seeded, goes_on[:-1], measures, self._same(threshold), passes)
        numbers, places = graph.add(found)
        numbers, places = np.append(numbers, 0).astype(np.int32), np.append(places, NONE).astype(np.int32)
        seam = Seam(self._plane(self.score, self.stop - 1).copy(), places[last], places[expected])
        return numbers[self._of(self.basins)], seam if self.has_behind else None

    def _part(self, array: Array, start: int, stop: int) -> Array:
        place = [slice(1, -1)] * 3
        place[self.axis] = slice(start, stop)
        return array[tuple(place)]

    def _of(self, array: Array) -> Array:
        """Returns the planes themselves of a padded array."""
        return self._part(array, self.first, self.stop)

    def _plane(self, array: Array, at: int) -> Array:
        return self._part(array, at, at + 1)

    def _steps(self) -> list[int]:
        """Returns how far the 27 voxels of a neighbourhood lie apart, in the order of the array."""
        _, ny, nz = self.score.shape
        return [(x * ny + y) * nz + z for x, y, z in NEIGHBOURHOOD]

    def _in_image(self, voxels: Index, first_plane: int, shape: Shape3) -> Index:
        """Returns where voxels of the padded array lie in the image: their places in its order."""
        at = [each.astype(np.int64) - 1 for each in np.unravel_index(voxels, self.score.shape)]
        at[self.axis] += first_plane + 1 - self.first
        return (at[0] * shape[1] + at[1]) * shape[2] + at[2]

    def _climb(self, n_before: int) -> int:
        """Gives a basin to each voxel that is of no seed; returns how many new ones there are, from ``n_before`` on."""
        score, basins = self.score.reshape(-1), self.basins.reshape(-1)
        inside = np.zeros(self.score.shape, bool)
        self._of(inside)[:] = (self._of(self.score) > OUTSIDE) & (self._of(self.basins) == NONE)
        voxels = np.flatnonzero(inside).astype(np.int32)
        best, highest = np.full(len(voxels), OUTSIDE, np.float32), voxels.copy()
        for step in self._steps():
            beside = voxels + np.int32(step)
            other = score[beside]
            is_higher = other > best
            np.copyto(best, other, where=is_higher)
            np.copyto(highest, beside, where=is_higher)
        leads_to = np.arange(len(score), dtype=np.int32)
        leads_to[voxels] = highest
        while not np.array_equal(further := leads_to[highest], highest):
            leads_to[voxels] = highest = further
        is_end = np.zeros(len(score), bool)
        is_end[highest] = True
        unknown = np.flatnonzero(is_end & (basins == NONE))
        basins[unknown] = n_before + np.arange(len(unknown))
        basins[voxels] = basins[highest]
        return len(unknown)

    def _same(self, threshold: float) -> Index:
        """Returns pairs of basins that are one, since the plane before lies between them."""
        if self.seam is None:
            return np.zeros((2, 0), np.int64)
        basins, score = (self._plane(each, self.first) for each in (self.basins, self.score))
        meets = self.seam.expected != NONE
        touches = (score >= threshold) & (self.seam.score >= threshold)
        before = np.concatenate([self.seam.expected[meets], self.seam.basins[touches]])
        return np.stack([before, np.concatenate([basins[meets], basins[touches]])]).astype(np.int64)

    def _passes(self, is_seeded: Bools, first_plane: int, shape: Shape3) -> Passes:
        """Returns where basins that have no seed touch others: each touch of two voxels once."""
        score, basins = self.score.reshape(-1), self.basins.reshape(-1)
        is_open = np.append(~is_seeded, False)
        voxels = np.flatnonzero(is_open[basins]).astype(np.int32)
        own, parts = basins[voxels], []
        for i, step in enumerate(self._steps()):
            beside = basins[voxels + np.int32(step)]
            touches = np.flatnonzero((beside != NONE) & (beside != own))
            if i < len(NEIGHBOURHOOD) // 2:  # the other voxel sees this one too, unless its basin has a seed
                touches = touches[~is_open[beside[touches]]]
            here = voxels[touches]
            lower, way = (here, i) if step > 0 else (here + np.int32(step), len(NEIGHBOURHOOD) - 1 - i)
            place = self._in_image(lower, first_plane, shape) * len(NEIGHBOURHOOD) + way
            parts.append(Passes(own[touches], beside[touches], np.minimum(score[here], score[here + step]), place))
        return Passes.joined(parts).highest()

    def _measures(self, n: int, first_plane: int, shape: Shape3) -> BasinMeasures:
        """Returns what is known of ``n`` basins in these planes."""
        is_own = np.zeros(self.score.shape, bool)
        self._of(is_own)[:] = self._of(self.basins) != NONE
        voxels = np.flatnonzero(is_own).astype(np.int32)
        basins, values = self.basins.reshape(-1)[voxels], self.values[self._of(is_own)].astype(np.int64)
        n_values = int(values.max(initial=0)) + 1
        by_value = np.bincount(basins * n_values + values, minlength=n * n_values).reshape(n, n_values)
        first, peak = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.float32)
        np.minimum.at(first, basins, voxels.astype(np.int64))
        np.maximum.at(peak, basins, self.score.reshape(-1)[voxels])
        some = by_value.any(1)
        first[some] = self._in_image(first[some], first_plane, shape)
        return BasinMeasures(by_value, first, peak)
