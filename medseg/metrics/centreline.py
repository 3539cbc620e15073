"""Whether tubes run where they should: the centre-line Dice."""

import edt
import numpy as np

from medseg.metrics.masks import Mask, MaskLike, checked_in_space


def centreline_dice(prediction: MaskLike, reference: MaskLike) -> float | None:
    """Returns the centre-line Dice (clDice), for vessels and other tubes.

    It is the harmonic mean of two parts: that of the prediction's centre line that lies in the reference, and that of
    the reference's centre line that lies in the prediction. Centre lines are thinned by Lee et al. 1994, in an image of
    one slice by Zhang and Suen 1984 (``skimage.morphology.skeletonize``).

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or ``(x, y)``; an array or a tensor.
        reference: The reference, of the same shape.

    Returns:
        From 0 to 1; 0 when one mask is empty, None when both are.

    Raises:
        ValueError: When the shapes differ, or one is no mask.

    Source: S. Shit et al., clDice, a novel topology-preserving loss function for tubular structure segmentation,
    CVPR 2021.

    Examples:
        >>> import numpy as np
        >>> vessel = np.zeros((9, 9, 20), bool)
        >>> vessel[3:6, 3:6] = True
        >>> centreline_dice(vessel, vessel)
        1.0
    """
    predicted, referred, _ = checked_in_space(prediction, reference)
    if not predicted.any() or not referred.any():
        return 0.0 if predicted.any() or referred.any() else None
    precision, sensitivity = referred[_centreline(predicted)].mean(), predicted[_centreline(referred)].mean()
    total = precision + sensitivity
    return float(2 * precision * sensitivity / total) if total else 0.0


def _centreline(mask: Mask) -> Mask:
    from skimage.morphology import skeletonize  # takes long to import

    flat = tuple(axis for axis, n in enumerate(mask.shape) if n == 1)[:1]
    thin: Mask = skeletonize(mask.squeeze(flat)).astype(bool)
    if not thin.any():  # of a cube of even edges nothing is left: its innermost voxels stand for it
        depth = edt.edt(mask.squeeze(flat), black_border=True)
        thin = depth == depth.max()
    return np.expand_dims(thin, flat)
