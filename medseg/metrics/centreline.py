"""Whether tubes run where they should: the centre-line Dice."""

import numpy as np
import numpy.typing as npt
from skimage.morphology import skeletonize

Mask = npt.NDArray[np.bool_]


def centreline_dice(prediction: Mask, reference: Mask) -> float | None:
    """Harmonic mean of the part of the prediction's centre line that lies in the reference, and of the reference's that
    lies in the prediction; 0 when one mask ``(x, y, z)`` is empty, None when both are.

    clDice of Shit et al., CVPR 2021. Centre lines are thinned by Lee et al. 1994, in an image of one slice by Zhang
    and Suen 1984 (``skimage.morphology.skeletonize``).
    """
    if not prediction.any() or not reference.any():
        return 0.0 if prediction.any() or reference.any() else None
    precision, sensitivity = reference[_centreline(prediction)].mean(), prediction[_centreline(reference)].mean()
    total = precision + sensitivity
    return float(2 * precision * sensitivity / total) if total else 0.0


def _centreline(mask: Mask) -> Mask:
    flat = tuple(axis for axis, n in enumerate(mask.shape) if n == 1)[:1]
    thin: Mask = skeletonize(mask.squeeze(flat)).astype(bool)
    return np.expand_dims(thin, flat)
