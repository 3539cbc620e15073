"""Objects of maps that tell neighbours apart: a watershed in one pass over slabs.

Each voxel of an object's label belongs to the basin that is reached by going to the highest of its neighbours, again
and again. Voxels of at least a threshold that touch by their faces are one basin, a seed. A basin without a seed joins
the neighbour that is reached over the highest pass, until a seed is reached. That is the minimum spanning forest rooted
in the seeds, a watershed of them (Cousty et al. 2009, doi:10.1109/TPAMI.2008.173; basins and their graph, for volumes
that don't fit into memory: Zlateski and Seung 2015, arXiv:1505.00249).

Where a voxel goes depends on its 26 neighbours alone. So a slab needs one plane of the next one, and the result does
not depend on the height of slabs. Of equal scores the one that comes first in the array is the highest, and of equal
passes the one whose two voxels come first. Memory holds a few planes, and those basins that reach the last one.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from medseg.instances.basin_graph import BasinGraph
from medseg.instances.basins import OUTSIDE, Planes, Seam
from medseg.instances.rule import GroupingRule
from medseg.scratch import forget, scratch_array
from medseg.volume import Array, Shape3

# Voxels that are looked at together: some 90 bytes of memory each. Fewer cost time, since more planes lie at a seam.
VOXELS_AT_ONCE = 2**24


@dataclass(frozen=True)
class Objects:
    """The objects of an image, numbered from 1 in the order of their first voxels in the array.

    Attributes:
        object_map: ``(x, y, z)``, uint16, or uint32 where there are more than 65,535 objects; 0 is none.
        values: The label of each object, ``(object,)``: the network value that most of its voxels have.
        voxels: How many each has.
        peaks: The highest score of each, 0 … 1.
    """

    object_map: Array
    values: npt.NDArray[np.int64]
    voxels: npt.NDArray[np.int64]
    peaks: npt.NDArray[np.float32]


class Grouping:
    """Groups the voxels of an image into objects, slab by slab.

    Args:
        shape: Of the image, ``(x, y, z)``.
        axis: Along which slabs come.
        rule: Where objects begin, and how small they may be.

    Examples:
        >>> import numpy as np
        >>> from medseg.instances.grouping import Grouping
        >>> from medseg.instances.rule import GroupingRule
        >>> score = np.array([0, 0.3, 1, 0.4, 0.9, 0.2, 0], np.float32).reshape(7, 1, 1)
        >>> grouping = Grouping(score.shape, axis=0, rule=GroupingRule(threshold=0.5))
        >>> for start in (0, 3, 6):  # slabs of three planes
        ...     slab = score[start : start + 3]
        ...     grouping.take((slab > 0).astype(np.uint8), slab, start)
        >>> grouping.objects().object_map.ravel().tolist()
        [0, 1, 1, 1, 2, 2, 0]
    """

    def __init__(self, shape: Shape3, axis: int, rule: GroupingRule) -> None:
        self.shape, self.axis, self.rule = shape, axis, rule
        self._basins = scratch_array(np.int32, shape)  # of each voxel, from 1; 0 where there is no object
        self._graph = BasinGraph()
        self._values: list[Array] = []  # of planes that wait, since they need the plane behind them
        self._scores: list[Array] = []
        self._next = 0  # the first of them
        self._seam: Seam | None = None
        self._at_once = max(1, VOXELS_AT_ONCE * shape[axis] // prod(shape))

    def take(self, values: Array, score: Array, start: int) -> None:
        """Takes the next slab; planes between it and the one before hold no object.

        Args:
            values: ``(x, y, z)``: network values of labels whose objects are told apart, elsewhere 0.
            score: How deep each voxel lies in its object, 0 … 1, of the same shape.
            start: The first plane of the slab along the axis.
        """
        if start > self._next + sum(score.shape[self.axis] for score in self._scores):
            self._group_waiting(ends=True)
            self._next, self._seam = start, None
        self._values.append(values)
        self._scores.append(np.where(values > 0, np.clip(score, 0, 1), OUTSIDE).astype(np.float32))
        self._group_waiting(ends=False)

    def objects(self) -> Objects:
        """Returns the objects of all slabs."""
        self._group_waiting(ends=True)
        table = self._graph.objects(self.rule.smallest)
        kind = np.uint16 if len(table.values) < 2**16 else np.uint32
        numbers = table.numbers.astype(kind)
        object_map = scratch_array(kind, self.shape)
        thickness = max(1, VOXELS_AT_ONCE // prod(self.shape[1:]))
        for first in range(0, self.shape[0], thickness):
            part = slice(first, first + thickness)
            object_map[part] = numbers[self._basins[part]]
            forget(object_map, self._basins)
        return Objects(object_map, table.values, table.voxels, table.peaks)

    def _group_waiting(self, ends: bool) -> None:
        """Finds the basins of the planes that wait, but for the last one, unless the objects end there."""
        if not self._scores:
            return
        values, score = np.concatenate(self._values, self.axis), np.concatenate(self._scores, self.axis)
        n = score.shape[self.axis]
        ready, done = n if ends else n - 1, 0
        while done < ready:
            stop = min(done + self._at_once, ready)
            behind = self._cut(score, stop, stop + 1) if stop < n else None
            planes = Planes(self.axis, self._cut(values, done, stop), self._cut(score, done, stop), self._seam, behind)
            basins, self._seam = planes.find(self._graph, self.rule.threshold, self._next, self.shape)
            self._cut(self._basins, self._next, self._next + stop - done)[:] = basins
            forget(self._basins)
            self._next, done = self._next + stop - done, stop
        self._values, self._scores = ([self._cut(each, done, n)] if done < n else [] for each in (values, score))

    def _cut(self, array: Array, start: int, stop: int) -> Array:
        place = [slice(None)] * 3
        place[self.axis] = slice(start, stop)
        return array[tuple(place)]
