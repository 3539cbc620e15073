"""Whether tubes run where they should: the centre-line Dice."""

import numpy as np

from medseg.metrics.masks import Mask, checked


def centreline_dice(prediction: Mask, reference: Mask) -> float | None:
    """Returns the centre-line Dice (clDice), for vessels and other tubes.

    It is the harmonic mean of two parts: that of the prediction's centre line that lies in the reference, and that of
    the reference's centre line that lies in the prediction. Centre lines are thinned by Lee et al. 1994, in an image of
    one slice by Zhang and Suen 1984 (``skimage.morphology.skeletonize``).

    Args:
        prediction: The predicted mask, ``(x, y, z)``.
        reference: The reference, of the same shape.

    Returns:
        From 0 to 1; 0 when one mask is empty, None when both are.

    Raises:
        ValueError: When the shapes differ.

    Source: S. Shit et al., clDice, a novel topology-preserving loss function for tubular structure segmentation,
    CVPR 2021.

    Examples:
        >>> import numpy as np
        >>> vessel = np.zeros((9, 9, 20), bool)
        >>> vessel[3:6, 3:6] = True
        >>> centreline_dice(vessel, vessel)
        1.0
    """
    prediction, reference = checked(prediction, reference)
    if not prediction.any() or not reference.any():
        return 0.0 if prediction.any() or reference.any() else None
    precision, sensitivity = reference[_centreline(prediction)].mean(), prediction[_centreline(reference)].mean()
    total = precision + sensitivity
    return float(2 * precision * sensitivity / total) if total else 0.0


def _centreline(mask: Mask) -> Mask:
    from skimage.morphology import skeletonize  # takes long to import

    flat = tuple(axis for axis, n in enumerate(mask.shape) if n == 1)[:1]
    thin: Mask = skeletonize(mask.squeeze(flat)).astype(bool)
    return np.expand_dims(thin, flat)
