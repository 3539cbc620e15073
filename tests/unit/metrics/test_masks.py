import numpy as np
import pytest
import torch

from medseg.metrics import (
    DiceMetric,
    HausdorffDistance95Metric,
    centreline_dice,
    dice,
    hd95,
    match_lesions,
    rand_scores,
    surface_dice,
)

BOX = np.zeros((8, 8, 8), bool)
BOX[2:5, 2:5, 2:5] = True
MOVED = np.roll(BOX, 1, axis=1)


def test_tensors_and_masks_of_numbers_are_masks() -> None:
    expected = dice(MOVED, BOX)
    assert dice(torch.from_numpy(MOVED), torch.from_numpy(BOX)) == expected
    assert dice(MOVED.astype(np.float32), torch.from_numpy(BOX).float().requires_grad_()) == expected
    assert dice(MOVED.astype(np.uint8) * 255, BOX) == expected
    assert hd95(torch.from_numpy(MOVED), BOX, (1.0, 2.0, 1.0)) == 2.0


def test_label_maps_and_probabilities_are_no_masks() -> None:
    label_map = BOX.astype(np.uint8)
    label_map[7] = 2
    with pytest.raises(
        ValueError, match="the prediction holds values from 1 to 2 beside 0.*give a mask: prediction == 1"
    ):
        dice(label_map, BOX)
    with pytest.raises(ValueError, match="the reference holds values"):
        hd95(BOX, np.linspace(0, 1, 512).reshape(8, 8, 8), 1.0)


def test_a_2d_image_is_measured_as_one_slice() -> None:
    prediction, reference = MOVED[3], BOX[3]
    assert hd95(prediction, reference, (2.0, 1.0)) == hd95(prediction[..., None], reference[..., None], (2.0, 1.0, 5.0))
    assert surface_dice(prediction, reference, 1.0, 0.5) == surface_dice(
        prediction[..., None], reference[..., None], (1.0, 1.0, 1.0), 0.5
    )
    assert match_lesions(reference, reference).f1 == centreline_dice(reference, reference) == 1.0


def test_a_spacing_is_one_number_or_one_an_axis() -> None:
    for spacing in (2.0, [2.0, 2.0, 2.0], np.full(3, 2.0)):
        assert hd95(MOVED, BOX, spacing) == 2.0
        assert surface_dice(MOVED, BOX, spacing, 2.0) == 1.0
    for spacing in ((2.0, 2.0), (2.0, 2.0, 2.0, 2.0)):
        with pytest.raises(ValueError, match="spacing .*: give 3 numbers for masks of 3 axes, or one for all"):
            hd95(MOVED, BOX, spacing)
    for number in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="spacing .*above 0 mm"):
            hd95(MOVED, BOX, number)
    with pytest.raises(ValueError, match="tolerance_mm -1"):
        surface_dice(MOVED, BOX, 1.0, -1)


def test_batches_are_refused_by_functions_of_two_masks() -> None:
    for function in (centreline_dice, match_lesions):
        with pytest.raises(ValueError, match="one label of one image at a time"):
            function(BOX[None], BOX[None])
    with pytest.raises(ValueError, match="give a 2D image"):
        rand_scores(BOX, BOX)


def batch(mask: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
    return torch.from_numpy(np.stack([~mask, mask])).float()[None]


def test_a_single_channel_is_measured_as_by_monai() -> None:
    from monai.metrics import DiceMetric as MonaisDiceMetric

    prediction, reference = batch(MOVED)[:, 1:], batch(BOX)[:, 1:]
    expected = MonaisDiceMetric(include_background=False)(prediction, reference)
    torch.testing.assert_close(DiceMetric()(prediction, reference), expected)


def test_a_spacing_in_monais_forms() -> None:
    prediction, reference = batch(MOVED).repeat(2, 1, 1, 1, 1), batch(BOX).repeat(2, 1, 1, 1, 1)
    metric = HausdorffDistance95Metric(spacing=3.0)
    assert metric(prediction, reference).flatten().tolist() == [3.0, 3.0]
    spacings = [[1.0, 1.0, 1.0], [1.0, 2.0, 1.0]]
    assert metric(prediction, reference, spacing=spacings).flatten().tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"spacing of shape \(3, 3\) for 2 images"):
        metric(prediction, reference, spacing=[[1.0] * 3] * 3)


def test_wrong_arguments_of_monais_forms() -> None:
    with pytest.raises(ValueError, match="means"):
        DiceMetric(reduction="means")
    with pytest.raises(ValueError, match="make label maps one-hot first"):
        DiceMetric()(batch(BOX), batch(BOX)[:, 1:])
