"""The values of label maps as files hold them: which of them were drawn, which are strays, and which can be rounded.

Strays are what JPEG, resizing or a slip of the brush leaves beside the values that a mask was drawn in. Values that are
not whole numbers come from a scaling or an interpolation.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.dataset.grid_mismatch import FIX
from medseg.io.source import ImageSource
from medseg.progress import counted
from medseg.volume import Array

# Only values as far apart as 0 and 255, or 0, 63, 126, … leave room for strays. Nearer ones are counted, not drawn:
# each stands for a structure, or numbers an object.
LEAST_GAP = 32

# What part of all labelled voxels a value has at least that was drawn. Among many values it is larger, since resizing
# by a whole number has favourites: a mask of 0 and 255 at half its size holds 2 % of 128.
MANY_VALUES = 16
LEAST_SHARE = 0.001
LEAST_SHARE_AMONG_MANY = 0.03

# A stray has at most this part of the voxels of the value that it was drawn as; one that was drawn as background, of
# the largest structure. Structures and objects with values near each other are not that different in size, all of them.
LARGEST_STRAY = 0.25

# A value with no more voxels than this in any case is hardly a structure.
FEWEST = 10

# Of the voxels that are not background, the part that has to lie on whole values before the rest is rounded to these.
MOSTLY = 0.9

# Values this close to a whole number were computed, not mixed.
ALMOST_WHOLE = 0.01

VALUES_SHOWN = 3

REWRITABLE = ("nifti", "image2d")  # kinds of files that ``inspect --fix`` gives other values


def rare_values(counts: Sequence[Mapping[int, int]]) -> dict[int, int]:
    """Returns values that no case has more than a few voxels of, as a slip of the brush leaves them.

    Args:
        counts: Voxels by value, of each case.

    Returns:
        The most voxels that a case has, by value.
    """
    most: dict[int, int] = {}
    for of_case in counts:
        for value, n in of_case.items():
            most[value] = max(n, most.get(value, 0))
    rare = {value: n for value, n in most.items() if value and n <= FEWEST}
    return rare if len(rare) < len(most.keys() - {0}) else {}  # all of them: objects of some pixels are meant


def rare_value_warning(value: int, most: int) -> tuple[str, str]:
    """Returns what is odd about a rare value, and what to do."""
    what = f"label value {value} has no more than {counted(most, 'voxel')} in any case, and becomes a label of its own"
    return what, "if it is a slip of the brush, correct the label maps; else name all labels in a dataset.json"


def stray_values(counts: Mapping[int, int]) -> dict[int, int] | None:
    """Returns for each stray value the one that it was most likely drawn as, the nearest.

    Labels that are given by name have no strays: see ``Labels.check``.

    Args:
        counts: Voxels by value (background, 0, may be missing), best of all label maps of a dataset, since a label that
            is rare in one case may be common in the next.

    Returns:
        The value that was drawn, by stray value; None where there are no strays.
    """
    total = sum(count for value, count in counts.items() if value != 0)
    least = total * (LEAST_SHARE_AMONG_MANY if len(counts) > MANY_VALUES else LEAST_SHARE)
    drawn = [0]
    for value in sorted(counts, key=lambda value: -counts[value]):
        if counts[value] >= least and all(abs(value - other) >= LEAST_GAP for other in drawn):
            drawn.append(value)
    strays = {value: min(drawn, key=lambda other: abs(value - other)) for value in sorted(counts) if value not in drawn}
    largest = max((counts[value] for value in drawn if value), default=0)
    compared = {value: counts[value] if value else largest for value in drawn}
    if any(counts[stray] > LARGEST_STRAY * compared[value] for stray, value in strays.items()):
        return None
    return strays or None


def nearest_labels(array: Array) -> tuple[int, ...] | None:
    """Returns the values that a label map was drawn in, to which the others may be rounded.

    Returns:
        The values in order, 0 among them; None when it is hardly a label map, or was interpolated too much.
    """
    if not np.isfinite(array).all():
        return None
    values, counts = np.unique(array[array != 0], return_counts=True)
    whole = np.rint(values)
    near = np.abs(values - whole) < ALMOST_WHOLE
    if near.all():
        voxels: dict[int, int] = {}
        for value, n in zip(whole.astype(int).tolist(), counts.tolist(), strict=True):
            voxels[value] = voxels.get(value, 0) + n
        return tuple(sorted({0, *(voxels.keys() - (stray_values(voxels) or {}).keys())}))
    share = {value: counts[near & (whole == value)].sum() / counts.sum() for value in np.unique(whole[near])}
    drawn = {int(value): part for value, part in share.items() if part >= LEAST_SHARE}
    return tuple(sorted({0, *drawn})) if sum(drawn.values()) >= MOSTLY else None


def fractional_values_message(array: Array, source: ImageSource) -> str:
    """Returns what is wrong with a label map whose values are not all whole, and what to do about it."""
    fractions = array[array != np.rint(array)]
    values = np.unique(fractions)
    furthest = sorted(values, key=lambda value: -abs(value - np.rint(value)))[:VALUES_SHOWN]
    shown = ", ".join(f"{value:.8g}" for value in sorted(furthest)) + (", …" if len(values) > VALUES_SHOWN else "")
    if abs(furthest[0] - np.rint(furthest[0])) < ALMOST_WHOLE:
        found = f"holds values that are nearly whole numbers: {shown}, as a scaling or interpolation leaves them"
    else:
        part = len(fractions) / np.count_nonzero(array)
        found = f"holds values that are not whole numbers: {shown}, in {part:.2%} of the voxels that are not 0"
    drawn = nearest_labels(array)
    if drawn is None:
        return (
            f"{found}; it is an image, or a label map that was interpolated, and what it was cannot be told; resample "
            "the original label map with the nearest neighbour"
        )
    nearest = f"each voxel the nearest of {', '.join(map(str, drawn))}"
    return f"{found}; {FIX} gives {nearest}" if source.kind in REWRITABLE else f"{found}; give {nearest}"
