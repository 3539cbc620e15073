"""The mask of one object: only the box that holds it is kept, so that many objects of a large scan take little."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from medseg.interactive.bounds import NOWHERE, Bounds, bounds_around, common, moved, shape_of, slices, union
from medseg.volume import MaskArray, Shape3


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
        result = np.zeros(shape_of(bounds), dtype=bool)
        shared = common(self.bounds, bounds)
        if shared is not None:
            result[slices(shared, bounds)] = self.voxels[slices(shared, self.bounds)]
        return result

    def with_part(self, bounds: Bounds, voxels: MaskArray) -> Self:
        """Returns the mask with other voxels within ``bounds``, cut to what it holds."""
        both = union(self.bounds, bounds)
        whole = self.read(both)
        whole[slices(bounds, both)] = voxels
        found = bounds_around(whole)
        if found is None:
            return type(self)()
        own = moved(found, [low for low, _ in both])
        return type(self)(own, np.ascontiguousarray(whole[slices(own, both)]))

    def without(self, bounds: Bounds) -> Self:
        """Returns the mask with background within ``bounds``."""
        shared = common(self.bounds, bounds)
        return self if shared is None else self.with_part(shared, np.zeros(shape_of(shared), dtype=bool))

    def change_from(self, before: Self) -> MaskChange:
        """Returns where the mask differs from an earlier one, and what it is there."""
        both = union(self.bounds, before.bounds)
        now = self.read(both)
        found = bounds_around(now != before.read(both))
        if found is None:
            return NO_CHANGE
        own = moved(found, [low for low, _ in both])
        return MaskChange(own, now[slices(own, both)])

    def whole(self, shape: Shape3) -> MaskArray:
        """Returns the mask of the whole image, ``(x, y, z)``."""
        x, y, z = shape
        return self.read(((0, x), (0, y), (0, z)))
