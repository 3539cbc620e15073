from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import tifffile
from scipy.optimize import linear_sum_assignment

from medseg.metrics.lesions import match_lesions

Mask = npt.NDArray[np.bool_]


def boxes(*starts: int, size: int = 4) -> Mask:
    """Boxes of ``size``×4×4 voxels along x."""
    mask = np.zeros((60, 8, 8), bool)
    for start in starts:
        mask[start : start + size, 2:6, 2:6] = True
    return mask


def test_found_missed_and_false_lesions_are_counted() -> None:
    lesions = match_lesions(boxes(0, 11, 30, 40), boxes(0, 10, 20))
    assert (lesions.prediction, lesions.reference, len(lesions.matched)) == (4, 3, 2)
    assert lesions.sensitivity == pytest.approx(2 / 3)
    assert lesions.precision == pytest.approx(2 / 4)
    assert lesions.f1 == pytest.approx(4 / 7)
    assert lesions.dice == pytest.approx((1 + 0.75) / 2)
    assert lesions.panoptic_quality == pytest.approx((1 + 3 / 5) / 3.5)


def test_the_least_iou_decides_what_is_a_match() -> None:
    pair = boxes(12), boxes(10)  # IoU 1/3
    assert match_lesions(*pair).f1 == 0
    assert match_lesions(*pair).dice is None
    assert match_lesions(*pair, least_iou=0.3).f1 == 1
    assert match_lesions(*pair, least_iou=1 / 3).f1 == 0


def test_each_lesion_matches_once_and_the_best_first() -> None:
    """Two predicted lesions in one of the reference: one is right, the other a false alarm."""
    lesions = match_lesions(boxes(10, 18, size=6), boxes(10, size=14), least_iou=0.1)
    assert (len(lesions.matched), lesions.precision, lesions.sensitivity) == (1, 0.5, 1)
    halves = boxes(10, size=5) | boxes(16, size=9)
    assert match_lesions(halves, boxes(10, size=15), least_iou=0.1).matched[0].prediction == 9 * 16


def test_voxels_that_share_a_corner_are_one_lesion() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = True
    assert match_lesions(mask, mask).reference == 1


def test_empty_masks() -> None:
    empty, full = boxes(), boxes(10)
    missed, false_alarm, absent = match_lesions(empty, full), match_lesions(full, empty), match_lesions(empty, empty)
    assert (missed.sensitivity, missed.precision, missed.f1, missed.panoptic_quality) == (0, None, 0, 0)
    assert (false_alarm.sensitivity, false_alarm.precision, false_alarm.f1) == (None, 0, 0)
    assert (absent.f1, absent.panoptic_quality, absent.dice) == (None, None, None)


@pytest.mark.parametrize("name", ["mask2d.tif", "mask3d.tif"])
def test_real_nuclei_match_as_by_an_optimal_assignment(real_data: Path, name: str) -> None:
    """Components by SciPy and the assignment of the largest total IoU: an independent way to the same pairs."""
    reference = tifffile.imread(real_data / "nuclei" / name) > 0
    reference = reference[..., None] if reference.ndim == 2 else reference
    prediction = np.roll(reference, 2, 0) & (np.random.default_rng(0).random(reference.shape) > 0.02)
    lesions = match_lesions(prediction, reference)
    (predicted, n), (referred, m) = (scipy.ndimage.label(mask, np.ones((3, 3, 3))) for mask in (prediction, reference))
    counts = np.histogram2d(referred.ravel(), predicted.ravel(), (np.arange(m + 2), np.arange(n + 2)))[0]
    union = counts.sum(0)[1:] + counts.sum(1)[1:, None] - counts[1:, 1:]
    iou = counts[1:, 1:] / union
    rows, columns = linear_sum_assignment(np.where(iou > 0.5, iou, 0), maximize=True)
    expected = iou[rows, columns][iou[rows, columns] > 0.5]
    assert (lesions.prediction, lesions.reference, len(lesions.matched)) == (n, m, len(expected))
    assert 0 < len(expected) < m
    assert lesions.panoptic_quality == pytest.approx(expected.sum() / ((n + m) / 2), abs=1e-9)
    assert lesions.dice == pytest.approx((2 * expected / (1 + expected)).mean(), abs=1e-9)
