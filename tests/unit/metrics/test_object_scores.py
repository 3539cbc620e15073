"""Scores of objects, against a slow implementation that follows the definitions voxel by voxel."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from medseg.metrics.object_scores import ObjectScores

ObjectMap = npt.NDArray[np.int64]


def random_maps(seed: int) -> tuple[ObjectMap, ObjectMap]:
    """Rectangles over each other, and the same ones moved, split, merged, left out."""
    random = np.random.default_rng(seed)
    reference, prediction = np.zeros((2, 24, 20), np.int64)
    for number in range(1, int(random.integers(2, 9))):
        x, y, w, h = random.integers((0, 0, 2, 2), (20, 16, 9, 9))
        reference[x : x + w, y : y + h] = number
        dx, dy = random.integers(-2, 3, 2)
        if random.random() < 0.85:
            prediction[max(x + dx, 0) : x + dx + w, max(y + dy, 0) : y + dy + h] = number
            if random.random() < 0.3:
                prediction[max(x + dx, 0) : x + dx + w // 2, max(y + dy, 0) : y + dy + h] = number + 20
    return reference, prediction


class ByDefinition:
    """Every score from sets of voxels, with the assignment of the most matches."""

    def __init__(self, reference: ObjectMap, prediction: ObjectMap) -> None:
        self.reference = [reference == i for i in np.unique(reference) if i]
        self.prediction = [prediction == i for i in np.unique(prediction) if i]
        self.iou = np.zeros((len(self.reference), len(self.prediction)))
        for (i, a), (j, b) in product(enumerate(self.reference), enumerate(self.prediction)):
            self.iou[i, j] = (a & b).sum() / (a | b).sum()

    def matched(self, least: float) -> list[float]:
        rows, columns = linear_sum_assignment(-((self.iou >= least) + self.iou / 100))
        return [float(self.iou[i, j]) for i, j in zip(rows, columns, strict=True) if self.iou[i, j] >= least]

    def average_precision(self, least: float) -> float:
        tp = len(self.matched(least))
        return tp / (len(self.reference) + len(self.prediction) - tp)

    def aji(self) -> float:
        common, either, used = 0, 0, set()
        for i, a in enumerate(self.reference):
            if not len(self.prediction) or not self.iou[i].max():
                either += int(a.sum())
                continue
            j = int(self.iou[i].argmax())
            common, either = common + int((a & self.prediction[j]).sum()), either + int((a | self.prediction[j]).sum())
            used.add(j)
        return common / (either + sum(int(b.sum()) for j, b in enumerate(self.prediction) if j not in used))

    @staticmethod
    def in_pieces(wholes: list[ObjectMap], pieces: list[ObjectMap]) -> int:
        def inside(whole: ObjectMap, piece: ObjectMap) -> bool:
            common = (whole & piece).sum()
            return bool(common > piece.sum() / 2 and common >= whole.sum() / 10)

        return sum(sum(inside(whole, piece) for piece in pieces) > 1 for whole in wholes)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_scores_are_those_of_their_definitions(seed: int) -> None:
    reference, prediction = random_maps(seed)
    scores, slow = ObjectScores.of(prediction, reference), ByDefinition(reference, prediction)
    for least in (0.5, 0.6, 0.7, 0.8, 0.9):
        assert scores.average_precision(least) == pytest.approx(slow.average_precision(least))
        assert len(scores.pairs.matches(least)) == len(slow.matched(least))
    matched, n = slow.matched(0.5), len(slow.reference) + len(slow.prediction)
    assert scores.f1 == pytest.approx(2 * len(matched) / n)
    assert scores.panoptic_quality == pytest.approx(2 * sum(matched) / n)
    assert scores.segmentation_quality == (pytest.approx(np.mean(matched)) if matched else None)
    assert scores.aggregated_jaccard == pytest.approx(slow.aji(), abs=0.02)  # of equal IoUs either object may be taken
    assert (scores.n_reference, scores.n_predicted) == (len(slow.reference), len(slow.prediction))
    assert scores.splits == slow.in_pieces(slow.reference, slow.prediction)
    assert scores.merges == slow.in_pieces(slow.prediction, slow.reference)


def test_two_halves_of_an_object_are_one_match() -> None:
    whole, halves = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])
    for one, other in ((whole, halves), (halves, whole)):
        scores = ObjectScores.of(one, other)
        assert len(scores.pairs.matches(0.5)) == 1 and scores.average_precision(0.5) == 0.5


def test_numbers_mean_nothing_and_empty_maps_have_no_scores() -> None:
    reference, prediction = random_maps(3)
    other = np.random.default_rng(0).permutation(np.arange(1, 60))
    renamed = np.where(prediction > 0, other[prediction - 1], 0)
    one, two = (ObjectScores.of(each, reference).panoptic_quality for each in (renamed, prediction))
    assert one == two
    nothing = np.zeros_like(reference)
    none = ObjectScores.of(nothing, nothing)
    assert (none.f1, none.mean_precision, none.aggregated_jaccard, none.panoptic_quality) == (None, None, None, None)
    missed = ObjectScores.of(nothing, reference)
    assert (missed.f1, missed.mean_precision, missed.aggregated_jaccard, missed.sensitivity, missed.precision) == (
        0,
        0,
        0,
        0,
        None,
    )


def test_one_object_over_everything_merges_all() -> None:
    reference = np.array([[1, 1, 2, 2, 3, 3]])
    scores = ObjectScores.of(np.ones_like(reference), reference)
    assert (scores.merges, scores.splits, scores.f1) == (1, 0, 0)
