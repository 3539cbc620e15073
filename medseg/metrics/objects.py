"""Objects of a reference and of a prediction that are compared one by one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.volume import Array

Index = npt.NDArray[np.int64]

USUAL_IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class ObjectPairs:
    """All pairs of an object of the reference and one of the prediction that share a voxel.

    Attributes:
        reference: The number of the first, ``(pair,)``.
        predicted: The number of the second.
        iou: Their common voxels, as part of those that either has.
        reference_voxels: Of each number of the reference, ``(number,)``; 0 is the background.
        predicted_voxels: The same of the prediction.
    """

    reference: Index
    predicted: Index
    iou: npt.NDArray[np.float64]
    reference_voxels: Index
    predicted_voxels: Index

    def matches(self, iou: float, smallest: int = 1) -> Index:
        """Returns which of the pairs are matches, ``(match,)``: from the highest IoU down, each object once.

        From a half on no other way of matching gives more of them: an object has several candidates only where two
        halves of it are objects of the other side.

        Args:
            iou: The least of a match, 0.5 or more.
            smallest: Predicted objects of fewer voxels count as if they weren't there.
        """
        order = np.argsort(-self.iou, kind="stable")
        order = order[(self.iou[order] >= iou) & (self.predicted_voxels[self.predicted[order]] >= smallest)]
        first = np.ones(len(order), bool)
        for objects in (self.reference[order], self.predicted[order]):
            is_first = np.zeros(len(order), bool)
            is_first[np.unique(objects, return_index=True)[1]] = True
            first &= is_first
        return order[first]

    def average_precision(self, iou: float, smallest: int = 1) -> float:
        """Returns the matches, as part of these, the missed and the wrong objects (StarDist's average precision).

        1 where there is none to find, and none is found.

        Source: Schmidt et al. 2018, arXiv:1806.03535, section 3.1.

        Args:
            iou: The least of a match, 0.5 or more.
            smallest: Predicted objects of fewer voxels count as if they weren't there.
        """
        matches = len(self.matches(iou, smallest))
        wanted = int(np.count_nonzero(self.reference_voxels[1:]))
        found = int(np.count_nonzero(self.predicted_voxels[1:] >= smallest))
        either = wanted + found - matches
        return matches / either if either else 1.0

    def mean_precision(self, ious: Sequence[float] = USUAL_IOUS, smallest: int = 1) -> float:
        """Returns the mean of the average precisions at several IoUs."""
        return float(np.mean([self.average_precision(iou, smallest) for iou in ious]))


def object_pairs(reference: Array, predicted: Array) -> ObjectPairs:
    """Returns the pairs of objects that share a voxel.

    Args:
        reference: Numbers of objects, of any shape; 0 is the background. They should not be larger than need be.
        predicted: The same, of the same shape.

    Examples:
        >>> import numpy as np
        >>> pairs = object_pairs(np.array([0, 1, 1, 1, 2]), np.array([0, 1, 1, 2, 2]))
        >>> pairs.iou.round(2).tolist(), pairs.average_precision(0.5)
        ([0.67, 0.25, 0.5], 1.0)
    """
    one, other = (np.asarray(each).ravel().astype(np.int64) for each in (reference, predicted))
    sizes = [np.bincount(each, minlength=1) for each in (one, other)]
    both = (one > 0) & (other > 0)
    keys, common = np.unique(one[both] * len(sizes[1]) + other[both], return_counts=True)
    first, second = np.divmod(keys, len(sizes[1]))
    return ObjectPairs(first, second, common / (sizes[0][first] + sizes[1][second] - common), *sizes)
