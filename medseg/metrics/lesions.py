"""Lesions one by one: which of them were found, and how well."""

from dataclasses import dataclass

import cc3d
import numpy as np

from medseg.metrics.masks import MaskLike, checked_in_space
from medseg.metrics.overlap import Overlap

# Above it a lesion of one mask has at most one partner in the other (Kirillov et al. 2019).
LEAST_IOU = 0.5


@dataclass(frozen=True)
class Lesions:
    """How many lesions there are, and the overlaps of those that match. A metric is None where its formula is 0/0.

    Attributes:
        prediction: Lesions of the prediction.
        reference: Lesions of the reference.
        matched: The overlap of each pair of lesions that match.

    Example:
        >>> lesions = Lesions(prediction=3, reference=2, matched=(Overlap(prediction=8, reference=12, both=6),))
        >>> lesions.sensitivity, lesions.f1, lesions.dice
        (0.5, 0.4, 0.6)
    """

    prediction: int
    reference: int
    matched: tuple[Overlap, ...]

    @property
    def sensitivity(self) -> float | None:
        """The part of the lesions of the reference that were matched."""
        return len(self.matched) / self.reference if self.reference else None

    @property
    def precision(self) -> float | None:
        """The part of the lesions of the prediction that were matched."""
        return len(self.matched) / self.prediction if self.prediction else None

    @property
    def f1(self) -> float | None:
        """The F1 of the lesions: 2 matched / (lesions of the prediction + of the reference).

        It is the recognition quality of Kirillov et al.
        """
        lesions = self.prediction + self.reference
        return 2 * len(self.matched) / lesions if lesions else None

    @property
    def dice(self) -> float | None:
        """The mean Dice of the matched lesions."""
        return float(np.mean([overlap.dice for overlap in self.matched])) if self.matched else None

    @property
    def panoptic_quality(self) -> float | None:
        """The panoptic quality: the sum of the IoU of matched lesions / the mean number of lesions.

        It is F1 times the mean IoU.

        Source: Kirillov et al., Panoptic Segmentation, CVPR 2019.
        """
        lesions = self.prediction + self.reference
        return 2 * sum(overlap.iou or 0.0 for overlap in self.matched) / lesions if lesions else None


def match_lesions(prediction: MaskLike, reference: MaskLike, least_iou: float = LEAST_IOU) -> Lesions:
    """Returns which lesions of a reference were found, and how well.

    Lesions are connected components; voxels that share a corner are connected (26 neighbours, 8 in an image of one
    slice). Pairs are taken from the highest IoU down, each lesion once.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or ``(x, y)``; an array or a tensor.
        reference: The reference, of the same shape.
        least_iou: A lesion of the prediction and one of the reference match when their IoU is above this.

    Returns:
        The numbers of lesions and the matches; from an empty mask come none.

    Raises:
        ValueError: When the shapes differ, or one is no mask.

    Source: A. Kirillov et al., Panoptic Segmentation, CVPR 2019.

    Examples:
        >>> import numpy as np
        >>> reference = np.zeros((20, 20, 20), bool)
        >>> reference[2:5, 2:5, 2:5] = reference[12:15, 12:15, 12:15] = True
        >>> prediction = reference.copy()
        >>> prediction[:10] = False  # one of two lesions is missed
        >>> lesions = match_lesions(prediction, reference)
        >>> lesions.prediction, lesions.reference, len(lesions.matched), round(lesions.f1, 3)
        (1, 2, 1, 0.667)
    """
    predicted_mask, reference_mask, _ = checked_in_space(prediction, reference)
    predicted, n_predicted = cc3d.connected_components(predicted_mask, return_N=True)
    referred, n_referred = cc3d.connected_components(reference_mask, return_N=True)
    both = predicted_mask & reference_mask
    pairs = referred[both].astype(np.int64) * (n_predicted + 1) + predicted[both]
    sizes, other_sizes = (np.bincount(lesions[lesions > 0]) for lesions in (predicted, referred))
    candidates = []
    for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
        i, j = divmod(int(pair), n_predicted + 1)
        overlap = Overlap(int(sizes[j]), int(other_sizes[i]), int(count))
        if (overlap.iou or 0.0) > least_iou:
            candidates.append((overlap, i, j))
    candidates.sort(key=lambda candidate: candidate[0].iou or 0.0, reverse=True)
    matched: dict[int, Overlap] = {}
    taken: set[int] = set()
    for overlap, i, j in candidates:
        if i not in matched and j not in taken:
            matched[i] = overlap
            taken.add(j)
    return Lesions(n_predicted, n_referred, tuple(matched.values()))
