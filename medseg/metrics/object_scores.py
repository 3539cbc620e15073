"""Scores of objects: how many were found, how well, and which were split or merged."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from medseg.metrics.objects import USUAL_IOUS, ObjectPairs, object_pairs
from medseg.volume import Array

Index = npt.NDArray[np.int64]

LEAST_IOU = 0.5  # of a match, where nothing else is said
LEAST_PART = 0.1  # of an object, that each piece of it, or each of its parts, has to cover
MOST_OF = 0.5  # of a piece has to lie in the object that it is a piece of


@dataclass(frozen=True)
class ObjectScores:
    """How the objects of a prediction compare with those of a reference. A score is None where its formula is 0/0.

    Attributes:
        pairs: All objects that share a voxel, and the sizes of all objects.

    Example:
        >>> import numpy as np
        >>> reference = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2]])
        >>> prediction = np.array([[5, 5, 5, 5, 0, 7, 7, 8, 8]])  # the second object in two pieces
        >>> scores = ObjectScores.of(prediction, reference)
        >>> scores.f1, scores.average_precision(0.5), scores.splits, scores.merges
        (0.8, 0.6666666666666666, 1, 0)
    """

    pairs: ObjectPairs

    @classmethod
    def of(cls, prediction: Array, reference: Array) -> "ObjectScores":
        """Returns the scores of two object maps of one shape, whose values number objects from 1; 0 is background."""
        return cls(object_pairs(reference, prediction))

    @property
    def n_reference(self) -> int:
        """How many objects the reference has."""
        return int(np.count_nonzero(self.pairs.reference_voxels[1:]))

    @property
    def n_predicted(self) -> int:
        """How many objects the prediction has."""
        return int(np.count_nonzero(self.pairs.predicted_voxels[1:]))

    @cached_property
    def _matched_ious(self) -> npt.NDArray[np.float64]:
        return self.pairs.iou[self.pairs.matches(LEAST_IOU)]

    def average_precision(self, iou: float) -> float | None:
        """Returns TP / (TP + FP + FN), where objects match whose IoU is at least ``iou``: StarDist's average precision.

        Source: Schmidt et al. 2018, arXiv:1806.03535, section 3.1.
        """
        return self.pairs.average_precision(iou) if self.n_reference + self.n_predicted else None

    @property
    def mean_precision(self) -> float | None:
        """The mean of the average precisions at the IoUs .5, .6, .7, .8 and .9."""
        values = [self.average_precision(iou) for iou in USUAL_IOUS]
        return None if None in values else float(np.mean([value for value in values if value is not None]))

    @property
    def sensitivity(self) -> float | None:
        """The part of the objects of the reference that were matched."""
        return len(self._matched_ious) / self.n_reference if self.n_reference else None

    @property
    def precision(self) -> float | None:
        """The part of the predicted objects that were matched."""
        return len(self._matched_ious) / self.n_predicted if self.n_predicted else None

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN): the recognition quality (RQ) of Kirillov et al. 2019."""
        objects = self.n_reference + self.n_predicted
        return 2 * len(self._matched_ious) / objects if objects else None

    @property
    def segmentation_quality(self) -> float | None:
        """The mean IoU of the matches (SQ); None without a match."""
        return float(self._matched_ious.mean()) if len(self._matched_ious) else None

    @property
    def panoptic_quality(self) -> float | None:
        """The sum of the IoUs of the matches / the mean number of objects: SQ times RQ (Kirillov et al. 2019)."""
        objects = self.n_reference + self.n_predicted
        return 2 * float(self._matched_ious.sum()) / objects if objects else None

    @property
    def aggregated_jaccard(self) -> float | None:
        """The aggregated Jaccard index (AJI).

        Each object of the reference goes with the predicted one of the highest IoU. It is the sum of their common
        voxels, as part of the voxels that either has and of those of the predicted objects that go with none.

        Source: Kumar et al. 2017, doi:10.1109/TMI.2017.2677499, algorithm 1.
        """
        sizes, predicted_sizes = self.pairs.reference_voxels, self.pairs.predicted_voxels
        if not self.n_reference + self.n_predicted:
            return None
        order = np.lexsort((-self.pairs.iou, self.pairs.reference))
        first = order[np.unique(self.pairs.reference[order], return_index=True)[1]]
        reference, predicted = self.pairs.reference[first], self.pairs.predicted[first]
        common = self._common[first]
        either = sizes[reference] + predicted_sizes[predicted] - common
        alone = int(sizes[1:].sum() - sizes[reference].sum())
        unused = int(predicted_sizes[1:].sum() - predicted_sizes[np.unique(predicted)].sum())
        return float(common.sum() / (either.sum() + alone + unused))

    @cached_property
    def _common(self) -> Index:
        """How many voxels each pair shares."""
        both = self.pairs.reference_voxels[self.pairs.reference] + self.pairs.predicted_voxels[self.pairs.predicted]
        return np.rint(self.pairs.iou * both / (1 + self.pairs.iou)).astype(np.int64)

    def split_objects(self) -> Index:
        """Returns the objects of the reference that were split: two predicted objects or more lie in each.

        More than half of a predicted object lies in it, and it is a tenth of the object of the reference at least.
        """
        return _with_pieces(self.pairs.reference, self._pieces(self.pairs.predicted_voxels[self.pairs.predicted]))

    def merged_objects(self) -> Index:
        """Returns the predicted objects that are merged ones: two objects of the reference or more lie in each.

        More than half of an object of the reference lies in it, and is a tenth of it at least.
        """
        return _with_pieces(self.pairs.predicted, self._pieces(self.pairs.reference_voxels[self.pairs.reference]))

    def _pieces(self, piece_voxels: Index) -> npt.NDArray[np.bool_]:
        """Returns of which pairs the one object is a piece of the other; ``piece_voxels`` are those of the piece."""
        both = self.pairs.reference_voxels[self.pairs.reference] + self.pairs.predicted_voxels[self.pairs.predicted]
        whole = both - piece_voxels
        inside: npt.NDArray[np.bool_] = (self._common > MOST_OF * piece_voxels) & (self._common >= LEAST_PART * whole)
        return inside

    @property
    def splits(self) -> int:
        """How many objects of the reference were split."""
        return len(self.split_objects())

    @property
    def merges(self) -> int:
        """How many predicted objects are merged ones."""
        return len(self.merged_objects())


def _with_pieces(objects: Index, is_piece: npt.NDArray[np.bool_]) -> Index:
    numbers, counts = np.unique(objects[is_piece], return_counts=True)
    return np.asarray(numbers[counts > 1])
