"""The mask of one object: only the box that holds it is kept, so that many objects of a large scan take little."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from medseg.interactive.prompts import Bounds
from medseg.volume import MaskArray, Shape3

NOWHERE: Bounds = ((0, 0), (0, 0), (0, 0))


@dataclass(frozen=True)
class MaskChange:
    """A part of a mask that has changed.

    Attributes:
        bounds: Where it lies: the first voxel and the one behind the last, along each axis.
        mask: What the mask is there now, ``(x, y, z)``.

    Examples:
        >>> whole = np.zeros((8, 8, 8), dtype=bool)
        >>> change = MaskChange(((2, 4), (0, 1), (5, 7)), np.ones((2, 1, 2), dtype=bool))
        >>> whole[tuple(slice(low, high) for low, high in change.bounds)] = change.mask
        >>> int(whole.sum()), change.is_empty
        (4, False)
    """

    bounds: Bounds
    mask: MaskArray

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        return self.mask.size == 0


def _no_voxels() -> MaskArray:
    return np.zeros((0, 0, 0), dtype=bool)


NO_CHANGE = MaskChange(NOWHERE, _no_voxels())


@dataclass(frozen=True)
class ObjectMask:
    """A mask that is background outside of ``bounds``. It never changes: ``with_part`` gives another one.

    Attributes:
        bounds: Where ``voxels`` lie.
        voxels: ``(x, y, z)``.

    Examples:
        >>> mask = ObjectMask().with_part(((2, 4), (0, 1), (5, 7)), np.ones((2, 1, 2), dtype=bool))
        >>> int(mask.read(((0, 3), (0, 1), (0, 9))).sum()), mask.change_from(ObjectMask()).bounds
        (2, ((2, 4), (0, 1), (5, 7)))
    """

    bounds: Bounds = NOWHERE
    voxels: MaskArray = field(default_factory=_no_voxels)

    def read(self, bounds: Bounds) -> MaskArray:
        """Returns the voxels within other bounds, ``(x, y, z)``."""
        result = np.zeros([high - low for low, high in bounds], dtype=bool)
        common = _common(self.bounds, bounds)
        if common is not None:
            result[_slices(common, bounds)] = self.voxels[_slices(common, self.bounds)]
        return result

    def with_part(self, bounds: Bounds, voxels: MaskArray) -> Self:
        """Returns the mask with other voxels within ``bounds``, cut to what it holds."""
        both = union(self.bounds, bounds)
        whole = self.read(both)
        whole[_slices(bounds, both)] = voxels
        found = box_of(whole)
        if found is None:
            return type(self)()
        own = moved(found, [low for low, _ in both])
        return type(self)(own, np.ascontiguousarray(whole[_slices(own, both)]))

    def without(self, bounds: Bounds) -> Self:
        """Returns the mask with background within ``bounds``."""
        common = _common(self.bounds, bounds)
        if common is None:
            return self
        return self.with_part(common, np.zeros([high - low for low, high in common], dtype=bool))

    def change_from(self, before: Self) -> MaskChange:
        """Returns where the mask differs from an earlier one, and what it is there."""
        both = union(self.bounds, before.bounds)
        now = self.read(both)
        found = box_of(now != before.read(both))
        if found is None:
            return NO_CHANGE
        own = moved(found, [low for low, _ in both])
        return MaskChange(own, now[_slices(own, both)])

    def whole(self, shape: Shape3) -> MaskArray:
        """Returns the mask of the whole image, ``(x, y, z)``."""
        x, y, z = shape
        return self.read(((0, x), (0, y), (0, z)))


def box_of(mask: MaskArray) -> Bounds | None:
    """Returns the bounds of what is in a mask; None where that is nothing."""
    ends = []
    for axis in range(3):
        inside = np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis})))
        if not len(inside):
            return None
        ends.append((int(inside[0]), int(inside[-1]) + 1))
    x, y, z = ends
    return x, y, z


def moved(bounds: Bounds, offset: Sequence[int]) -> Bounds:
    """Returns bounds that lie ``offset`` voxels further."""
    x, y, z = ((low + by, high + by) for (low, high), by in zip(bounds, offset, strict=True))
    return x, y, z


def union(bounds: Bounds, other: Bounds) -> Bounds:
    """Returns the bounds of both; those that hold no voxel don't count."""
    if _is_empty(bounds) or _is_empty(other):
        return other if _is_empty(bounds) else bounds
    x, y, z = ((min(a, c), max(b, d)) for (a, b), (c, d) in zip(bounds, other, strict=True))
    return x, y, z


def _common(bounds: Bounds, other: Bounds) -> Bounds | None:
    x, y, z = ((max(a, c), min(b, d)) for (a, b), (c, d) in zip(bounds, other, strict=True))
    return None if _is_empty((x, y, z)) else (x, y, z)


def _is_empty(bounds: Bounds) -> bool:
    return any(low >= high for low, high in bounds)


def _slices(bounds: Bounds, within: Bounds) -> tuple[slice, slice, slice]:
    """Returns ``bounds`` as slices of an array that lies at ``within``."""
    x, y, z = (slice(low - first, high - first) for (low, high), (first, _) in zip(bounds, within, strict=True))
    return x, y, z
