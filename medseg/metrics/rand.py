"""Whether a 2D image is divided into the same pieces: the Rand and the information score of ISBI 2012.

Pieces are the connected components of a mask (the cells, where another label or the background is the membrane), pixels
connected by their edges. Both scores go over the pixels of the reference's pieces only, and the prediction's membranes
are thinned first, as their width does not matter: its pieces grow until lines of one pixel part them, and a pixel of a
line is a piece of its own. Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for
connectomics, Frontiers in Neuroanatomy 2015. The challenge took the best threshold of the probabilities; here the masks
are what they are.
"""

from typing import NamedTuple

import edt
import numpy as np

from medseg.metrics.masks import MaskLike, checked


class RandScores(NamedTuple):
    """The two scores; 1 is the best, 0 the worst.

    Attributes:
        rand_score: V_Rand.
        information_score: V_Info.

    Example:
        >>> scores = RandScores(rand_score=0.97, information_score=0.99)
        >>> rand_score, information_score = scores
    """

    rand_score: float
    information_score: float


def rand_scores(prediction: MaskLike, reference: MaskLike) -> RandScores | None:
    """Returns the Rand and the information score of a 2D image that is divided into pieces.

    Args:
        prediction: The predicted mask of the pieces, ``(x, y)``; an array or a tensor.
        reference: The reference, of the same shape.

    Returns:
        ``rand_score``, 2 Σp² / (Σs² + Σt²) over pairs of pixels (V_Rand), and ``information_score``,
        2 I(S;T) / (H(S) + H(T)) (V_Info; 1 when both are one piece). Both are 0 when only the prediction is empty; None
        when the reference is.

    Raises:
        ValueError: When the shapes differ, or one is no mask of a 2D image.

    Source: I. Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for connectomics,
    Frontiers in Neuroanatomy 2015.

    Examples:
        >>> import numpy as np
        >>> cells = np.ones((16, 16), bool)
        >>> cells[8] = False  # a membrane between two cells
        >>> scores = rand_scores(cells, cells)
        >>> round(scores.rand_score, 6), round(scores.information_score, 6)
        (1.0, 1.0)
    """
    from skimage.measure import label, shannon_entropy  # scikit-image takes long to import
    from skimage.metrics import adapted_rand_error, variation_of_information
    from skimage.segmentation import watershed

    predicted, referred = checked(prediction, reference)
    if sum(n > 1 for n in predicted.shape) > 2:
        raise ValueError(f"masks of shape {predicted.shape}: give a 2D image, (x, y)")
    if not referred.any():
        return None
    if not predicted.any():
        return RandScores(0.0, 0.0)
    seeds = label(predicted, connectivity=1)
    pieces = watershed(edt.edt(~predicted), seeds, watershed_line=True)[referred]
    true_pieces = label(referred, connectivity=1)[referred]
    line = pieces == 0
    pieces[line] = pieces.max() + 1 + np.arange(np.count_nonzero(line))
    entropy = shannon_entropy(pieces) + shannon_entropy(true_pieces)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = adapted_rand_error(true_pieces, pieces)[0]  # nan when all pieces are single pixels, which are the same
    different = sum(variation_of_information(true_pieces, pieces))
    return RandScores(1.0 if np.isnan(error) else float(1 - error), float(1 - different / entropy) if entropy else 1.0)
