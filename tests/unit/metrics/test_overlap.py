from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.evaluation.reading import what_counts
from medseg.labels import Labels
from medseg.metrics.overlap import Overlap, count_overlaps


def test_counts_of_shifted_boxes() -> None:
    prediction = np.zeros((10, 10, 10), np.uint8)
    reference = np.zeros_like(prediction)
    prediction[2:6, 2:6, 2:6] = 1
    reference[3:7, 2:6, 2:6] = 1
    reference[8, 8, 8] = 2
    box, voxel = count_overlaps(prediction, reference, 2)
    assert (box.prediction, box.reference, box.both) == (64, 64, 48)
    assert box.dice == pytest.approx(0.75)
    assert box.iou == pytest.approx(48 / 80)
    assert (voxel.prediction, voxel.reference, voxel.both) == (0, 1, 0)
    assert voxel.dice == 0.0


def test_counts_agree_with_masks_of_each_label() -> None:
    random = np.random.default_rng(0)
    prediction = random.integers(0, 5, (7, 8, 9)).astype(np.uint8)
    reference = np.asfortranarray(random.integers(0, 5, (7, 8, 9)).astype(np.int16))
    for label, overlap in enumerate(count_overlaps(prediction, reference, 4), start=1):
        p, r = prediction == label, reference == label
        assert overlap == Overlap(p.sum(), r.sum(), (p & r).sum())


def test_two_empty_masks_have_no_overlap_measure() -> None:
    empty = Overlap(0, 0, 0)
    assert empty.dice is None
    assert empty.iou is None
    assert empty.sensitivity is None
    assert empty.precision is None


def test_a_value_that_is_no_label_is_refused() -> None:
    label_map = np.full((2, 2, 2), 3, np.uint8)
    with pytest.raises(ValueError, match="3 is above the highest label, 2"):
        count_overlaps(label_map, label_map, 2)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        count_overlaps(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), 1)


def test_metrics_agree_with_monai_and_simpleitk_on_real_masks(real_data: Path) -> None:
    import SimpleITK
    import torch
    from monai.metrics import compute_iou, get_confusion_matrix

    reference = np.asarray(nibabel.load(real_data / "sarcoma/nifti/STS_002/CT_mask.nii.gz").dataobj).astype(np.uint8)
    prediction = np.roll(reference, (3, -2, 1), (0, 1, 2))
    (overlap,) = count_overlaps(prediction, reference, 1)
    measures = SimpleITK.LabelOverlapMeasuresImageFilter()
    measures.Execute(*(SimpleITK.GetImageFromArray(mask.T) for mask in (reference, prediction)))
    tensors = [torch.tensor(mask)[None, None].float() for mask in (prediction, reference)]
    tp, fp, _, fn = get_confusion_matrix(*tensors)[0, 0].double()
    assert overlap.dice == pytest.approx(measures.GetDiceCoefficient(), abs=1e-9)
    assert overlap.iou == pytest.approx(float(compute_iou(*tensors)), abs=1e-6)
    assert overlap.sensitivity == pytest.approx(float(tp / (tp + fn)), abs=1e-9)
    assert overlap.precision == pytest.approx(float(tp / (tp + fp)), abs=1e-9)


def test_what_was_not_annotated_does_not_count() -> None:
    labels = Labels.from_names({"liver": 1, "spleen": 4}, ignore=9)
    prediction, reference = np.array([1, 4, 1, 0, 4]), np.array([1, 0, 9, 4, 9])
    predicted, referred = what_counts(prediction, reference, labels, None)
    assert (predicted.tolist(), referred.tolist()) == ([1, 4, 0, 0, 0], [1, 0, 0, 4, 0])
    predicted, referred = what_counts(prediction, reference, labels, ("liver",))
    assert (predicted.tolist(), referred.tolist()) == ([1, 0, 0, 0, 0], [1, 0, 0, 0, 0])
