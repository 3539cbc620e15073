"""Where a simulated user clicks: in the largest error of a mask, not quite in its middle."""

from collections.abc import Sequence

import numpy as np

from medseg.interactive.bounds import bounds_around, slices
from medseg.interactive.prompts import Point
from medseg.volume import Array, MaskArray

# Of a click from where it was meant, in voxels: robots that never miss overrate models (arXiv:2404.01816).
JITTER_VOXELS = 2.0
TRIES = 20


def next_click(
    mask: MaskArray,
    reference: MaskArray,
    spacing: Sequence[float],
    random: np.random.Generator,
    jitter: float = JITTER_VOXELS,
) -> Point | None:
    """Returns where a user who knows the reference clicks next; None where nothing is wrong.

    That is the largest connected piece of what is missing or too much, at the place in it that is farthest from its
    border (in mm), moved at random but within the piece. It is the protocol of the CVPR 2025 challenge on interactive
    segmentation, but for the jitter.

    Args:
        mask: What there is so far, ``(x, y, z)``.
        reference: What there should be.
        spacing: Edges of a voxel in mm.
        random: Draws the jitter.
        jitter: Its standard deviation along each axis, in voxels.

    Examples:
        >>> reference = np.zeros((9, 9, 9), dtype=bool)
        >>> reference[2:7, 2:7, 2:7] = True
        >>> nothing = np.zeros_like(reference)
        >>> next_click(nothing, reference, (1, 1, 1), np.random.default_rng(0), jitter=0)
        Point(index=(4, 4, 4), positive=True)
    """
    from cc3d import connected_components  # these two take long to import
    from edt import edt

    box = bounds_around(mask != reference)
    if box is None:
        return None
    mask, reference = mask[slices(box)], reference[slices(box)]
    # 1: missed, 2: too much. Pieces of the two are never one.
    errors = np.where(reference & ~mask, 1, np.where(mask & ~reference, 2, 0)).astype(np.uint8)
    pieces = connected_components(errors, connectivity=26)
    largest = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    depth = edt(np.pad(largest, 1), anisotropy=tuple(spacing))[1:-1, 1:-1, 1:-1]
    middle = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    place = _moved_within(largest, middle, random, jitter)
    i, j, k = (int(at + low) for at, (low, _) in zip(place, box, strict=True))
    return Point((i, j, k), bool(errors[tuple(place)] == 1))


def _moved_within(piece: MaskArray, middle: Array, random: np.random.Generator, jitter: float) -> Array:
    """Returns a voxel of a piece near to its middle, which it is itself where no other was drawn."""
    places: Array = middle + np.rint(random.normal(0, jitter, (TRIES, 3))).astype(int)
    for place in places:
        if (place >= 0).all() and (place < piece.shape).all() and piece[tuple(place)]:
            return np.asarray(place)
    return middle
