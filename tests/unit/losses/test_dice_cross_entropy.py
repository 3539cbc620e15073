import pytest
import torch
from monai.losses import DiceCELoss

from medseg.losses import DiceCrossEntropyLoss, subsampled


def test_one_head_is_monais_dice_ce() -> None:
    logits = torch.randn(2, 3, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    label = (torch.arange(2 * 6**3) % 3).reshape(2, 1, 6, 6, 6).to(torch.uint8)
    theirs = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    assert float(DiceCrossEntropyLoss(1, 1)(logits, label)) == pytest.approx(float(theirs(logits, label)))


def test_heads_weigh_half_of_the_one_before_and_one_together() -> None:
    label = torch.randint(0, 2, (1, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    loss = DiceCrossEntropyLoss(1, 1)
    heads = [torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 2)]
    alone = [float(loss(head, subsampled(label, head.shape[2:]))) for head in heads]
    assert float(loss(heads, label)) == pytest.approx((4 * alone[0] + 2 * alone[1] + alone[2]) / 7, rel=1e-5)


def test_a_perfect_answer_costs_nothing_and_an_absent_label_is_no_division_by_zero() -> None:
    label = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    label[..., :2] = 1
    logits = torch.nn.functional.one_hot(label[:, 0].long(), 3).permute(0, 3, 1, 2) * 50.0 - 25.0
    value = float(DiceCrossEntropyLoss(1, 1)(logits, label))
    assert value == pytest.approx(0, abs=1e-3)


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(1, 2, 32, 32, 32).bfloat16()
    assert DiceCrossEntropyLoss(1, 1)(logits, torch.ones(1, 1, 32, 32, 32, dtype=torch.uint8)).dtype == torch.float32


def test_heads_of_one_resolution_weigh_as_the_network_says() -> None:
    label = torch.randint(0, 2, (1, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    heads = [torch.randn(1, 2, 8, 8) for _ in range(3)]
    alone = [float(DiceCrossEntropyLoss(1, 1)(head, label)) for head in heads]
    together = DiceCrossEntropyLoss(1, 1, head_weights=(1, 1, 2))(heads, label)
    assert float(together) == pytest.approx((alone[0] + alone[1] + 2 * alone[2]) / 4, rel=1e-5)


def test_logits_of_the_centre_are_compared_with_the_centre() -> None:
    label = torch.randint(0, 2, (1, 1, 12, 10), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    logits = torch.randn(1, 2, 8, 10)
    cut = DiceCrossEntropyLoss(1, 1, margin=(2, 0))(logits, label)
    assert float(cut) == pytest.approx(float(DiceCrossEntropyLoss(1, 1)(logits, label[:, :, 2:-2])))


def test_odd_shapes_take_the_voxels_that_strided_convolutions_are_centred_on() -> None:
    label = torch.arange(41)[None, None, :, None]
    assert subsampled(label, (21, 1)).flatten().tolist() == list(range(0, 41, 2))
    assert subsampled(label, (11, 1)).flatten().tolist() == list(range(0, 41, 4))
