"""Boxes of voxels by their bounds, which unlike slices can lie beyond an image, be compared, and be sent."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from medseg.volume import Array, Points, Shape3, box_of
from medseg.volume import Box as Slices

Bounds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""The first voxel along each axis (x, y, z), and the first one beyond it."""

NOWHERE: Bounds = ((0, 0), (0, 0), (0, 0))


def bounds_around(mask: Array) -> Bounds | None:
    """Returns the bounds of the smallest box around a mask ``(x, y, z)``; None where it is empty.

    Examples:
        >>> import numpy as np
        >>> mask = np.zeros((4, 5, 6), bool)
        >>> mask[1:3, 2, 4] = True
        >>> bounds_around(mask)
        ((1, 3), (2, 3), (4, 5))
    """
    box = box_of(mask)
    if box is None:
        return None
    x, y, z = ((part.start, part.stop) for part in box)
    return x, y, z


def shape_of(bounds: Bounds) -> Shape3:
    """Returns how many voxels there are along each axis."""
    x, y, z = (high - low for low, high in bounds)
    return x, y, z


def corners_of(bounds: Sequence[Sequence[int]]) -> Points:
    """Returns the corners of the outer faces of the voxels, ``(8, 3)``.

    Examples:
        >>> corners_of(((0, 2), (3, 4), (5, 6)))[[0, -1]].tolist()
        [[-0.5, 2.5, 4.5], [1.5, 3.5, 5.5]]
    """
    return np.array(list(product(*bounds)), dtype=np.float64) - 0.5


def slices(bounds: Bounds, within: Bounds = NOWHERE) -> Slices:
    """Returns bounds as slices of an array ``(x, y, z)``: that of the image, or one whose voxels lie ``within``."""
    x, y, z = (slice(low - first, high - first) for (low, high), (first, _) in zip(bounds, within, strict=True))
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


def common(bounds: Bounds, other: Bounds) -> Bounds | None:
    """Returns the bounds of the voxels that lie within both; None where there are none."""
    x, y, z = ((max(a, c), min(b, d)) for (a, b), (c, d) in zip(bounds, other, strict=True))
    return None if _is_empty((x, y, z)) else (x, y, z)


def _is_empty(bounds: Bounds) -> bool:
    return any(low >= high for low, high in bounds)
