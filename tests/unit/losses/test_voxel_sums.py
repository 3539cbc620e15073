from math import log

import pytest
import torch
from monai.losses import DiceLoss

from medseg.losses import DiceCrossEntropyLoss, RegionSums

WHOLE, CORE = (1, 2, 3), (1, 3)


def test_the_masks_are_unions_of_labels() -> None:
    label = torch.tensor([[0, 1, 2, 3], [3, 0, 0, 1]], dtype=torch.uint8)[:, None]
    masks = RegionSums((WHOLE, CORE)).masks(label)
    assert masks.tolist() == [
        [[False, True, True, True], [False, True, False, True]],
        [[True, False, False, True], [True, False, False, True]],
    ]


def test_a_loss_by_hand() -> None:
    """Logits of 0 are probabilities of one half."""
    label = torch.tensor([[[0, 1, 2, 3]]], dtype=torch.uint8)
    logits = torch.zeros(1, 2, 4)
    dice = [1 - 2 * (3 / 2) / (2 + 3), 1 - 2 * (2 / 2) / (2 + 2)]
    loss = DiceCrossEntropyLoss(1, 2, regions=(WHOLE, CORE))(logits, label)
    assert float(loss) == pytest.approx(sum(dice) / 2 + 2 * log(2), abs=1e-4)


def test_it_is_monais_dice_and_torchs_binary_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 6, 5, 4, generator=generator)
    label = torch.randint(0, 4, (2, 1, 6, 5, 4), generator=generator).to(torch.uint8)
    masks = torch.cat([label > 0, (label == 1) | (label == 3)], 1).float()
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, masks)
    entropy = torch.nn.BCEWithLogitsLoss()(logits, masks)
    loss = DiceCrossEntropyLoss(0.5, 2, regions=(WHOLE, CORE))
    assert float(loss(logits, label)) == pytest.approx(float(0.5 * dice + 2 * entropy))
    heads = [logits, logits[..., ::2, ::2, ::2]]
    alone = [float(loss(logits, label)), float(loss(heads[1], label[..., ::2, ::2, ::2]))]
    assert float(loss(heads, label)) == pytest.approx((2 * alone[0] + alone[1]) / 3)
