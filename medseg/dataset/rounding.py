"""Label maps whose values are not whole numbers: computed or interpolated ones that can be rounded, and the others."""

import numpy as np

from medseg.dataset.grids import FIX
from medseg.dataset.strays import LEAST_SHARE, stray_values
from medseg.io.source import ImageSource
from medseg.volume import Array

# Of the voxels that are not background, the part that has to lie on whole values before the rest is rounded to these.
MOSTLY = 0.9

# Values this close to a whole number were computed, not mixed.
ALMOST_WHOLE = 0.01

VALUES_SHOWN = 3

REWRITABLE = ("nifti", "image2d")  # kinds of files that ``inspect --fix`` gives other values


def nearest_labels(array: Array) -> tuple[int, ...] | None:
    """The values that a label map was drawn in (in order, 0 among them), to which the others may be rounded; None when
    it is hardly a label map, or was interpolated too much."""
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


def not_whole(array: Array, source: ImageSource) -> str:
    """What is wrong with the values of a label map (finite, not all of them whole), and what to do about it."""
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
