"""Basins of some planes of an image: where each voxel gets to that goes to the highest of its neighbours, and again."""

from dataclasses import dataclass
from itertools import product
from typing import Final

import cc3d
import numpy as np
import numpy.typing as npt

from medseg.instances.basin_graph import BasinGraph, BasinMeasures, Index, Passes
from medseg.volume import Array

OUTSIDE = -1.0  # the score where there is no object: lower than any other
NONE = -1  # no basin
FACES: Final = 6  # neighbours of a voxel that share a face


@dataclass(frozen=True)
class Seam:
    """What is known of the last plane that is done, when the next ones are looked at. All are ``(x, y, z)``.

    Attributes:
        score: Of the plane.
        basins: Of its voxels; ``NONE`` where there is no object.
        is_open: Whether that basin was found without a seed so far.
        expected: Of each voxel of the plane behind it: the basin that leads there, else ``NONE``.
    """

    score: Array
    basins: Index
    is_open: npt.NDArray[np.bool_]
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
        self.basins = np.full(self.score.shape, NONE, np.int64)
        self.is_open = np.zeros(self.score.shape, bool)

    def find(self, graph: BasinGraph, threshold: float, first_plane: int, shape: tuple[int, ...]) -> tuple[Index, Seam]:
        """Finds the basins of these planes, and adds them to a graph.

        Args:
            graph: Is told of basins, which of them are one, and of passes between them.
            threshold: Of seeds.
            first_plane: The place of the planes in the image.
            shape: Of the image.

        Returns:
            The basin of each voxel ``(x, y, z)``, and what the next planes have to know.
        """
        n_before, seeds = graph.n, cc3d.connected_components(self._of(self.score) >= threshold, connectivity=FACES)
        numbers = np.append(NONE, graph.new(int(seeds.max(initial=0)), seeded=True))
        self._of(self.basins)[:] = numbers[seeds]
        if self.seam is not None:
            self._plane(self.basins, self.first - 1)[:] = self.seam.basins
            self._plane(self.is_open, self.first - 1)[:] = self.seam.is_open
        self._climb(graph)
        expected = self._plane(self.basins, self.stop).copy()
        self._plane(self.basins, self.stop)[:] = NONE  # the next planes know what is there
        self._join(graph, threshold)
        graph.add_passes(self._passes())
        graph.add_measures(self._measures(n_before, graph.n, first_plane, shape))
        last = [self._plane(each, self.stop - 1).copy() for each in (self.score, self.basins, self.is_open)]
        return self._of(self.basins), Seam(last[0], last[1], last[2], expected)

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
        return [(x * ny + y) * nz + z for x, y, z in product((-1, 0, 1), repeat=3)]

    def _climb(self, graph: BasinGraph) -> None:
        """Gives a basin to each voxel that is of no seed."""
        score, basins, is_open = (each.reshape(-1) for each in (self.score, self.basins, self.is_open))
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
        ends = np.unique(highest)
        unknown = ends[basins[ends] == NONE]
        basins[unknown], is_open[unknown] = graph.new(len(unknown), seeded=False), True
        basins[voxels], is_open[voxels] = basins[highest], is_open[highest]

    def _join(self, graph: BasinGraph, threshold: float) -> None:
        """Tells which basins are the same as some of the plane before."""
        if self.seam is None:
            return
        basins, score = (self._plane(each, self.first) for each in (self.basins, self.score))
        meets = self.seam.expected != NONE
        touches = (score >= threshold) & (self.seam.score >= threshold)
        graph.join(
            np.concatenate([self.seam.expected[meets], self.seam.basins[touches]]),
            np.concatenate([basins[meets], basins[touches]]),
        )

    def _passes(self) -> Passes:
        """Returns where basins that have no seed touch others."""
        score, basins = self.score.reshape(-1), self.basins.reshape(-1)
        is_open = self.is_open.reshape(-1)
        voxels = np.flatnonzero(is_open & (basins != NONE))
        one, other, height = [], [], []
        for step in self._steps():
            beside = basins[voxels + step]
            touches = (beside != NONE) & (beside != basins[voxels])
            touches &= ~is_open[voxels + step] | (beside > basins[voxels])  # one way only, where both are open
            one.append(basins[voxels[touches]])
            other.append(beside[touches])
            height.append(np.minimum(score[voxels[touches]], score[voxels[touches] + step]))
        return Passes(np.concatenate(one), np.concatenate(other), np.concatenate(height))

    def _measures(self, n_before: int, n_after: int, first_plane: int, shape: tuple[int, ...]) -> BasinMeasures:
        """Returns what is known of the basins of these planes; those from ``n_before`` on were found in them."""
        basins = self._of(self.basins)
        found = basins != NONE
        of_voxel, values, scores = basins[found], self.values[found].astype(np.int64), self._of(self.score)[found]
        older = np.unique(of_voxel[of_voxel < n_before])
        n = n_after - n_before + len(older)
        is_new = of_voxel >= n_before
        own = np.where(is_new, of_voxel - n_before, n_after - n_before + np.searchsorted(older, of_voxel))
        n_values = int(values.max(initial=0)) + 1
        by_value = np.bincount(own * n_values + values, minlength=n * n_values).reshape(n, n_values)
        place = np.flatnonzero(found)
        first, peak = np.full(n, found.size), np.zeros(n, np.float32)
        np.minimum.at(first, own, place)
        np.maximum.at(peak, own, scores)
        some = by_value.any(1)
        at = list(np.unravel_index(first[some], found.shape))
        at[self.axis] = at[self.axis] + first_plane
        number = np.append(np.arange(n_before, n_after), older)
        return BasinMeasures(number[some], by_value[some], np.ravel_multi_index(tuple(at), shape), peak[some])
