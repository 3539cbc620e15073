"""The loss of the output that answers to prompts."""

import pytest
import torch

from medseg.losses import DiceCrossEntropyLoss, PromptedLoss, PromptedObjectLoss


def target_of(*samples: int) -> torch.Tensor:
    target = torch.zeros(len(samples), 1, 8, 8, dtype=torch.uint8)
    for own, n in zip(target, samples, strict=True):
        own[0, :n] = 1
    return target


def test_it_is_the_mean_of_the_losses_of_single_samples() -> None:
    logits, target = torch.randn(3, 1, 8, 8), target_of(1, 3, 6)
    single = [PromptedObjectLoss()(logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    assert PromptedObjectLoss()(logits, target) == pytest.approx(float(torch.stack(single).mean()))
    one_region = DiceCrossEntropyLoss(regions=[[1]])  # of one sample, Dice of the batch is that of the sample
    assert single[1] == pytest.approx(float(one_region(logits[1:2], target[1:2])))


def test_samples_without_a_prompt_and_unknown_voxels_give_no_gradient() -> None:
    logits, target = torch.randn(2, 1, 8, 8, requires_grad=True), target_of(3, 3)
    target[0], target[1, :, :, :2] = 255, 255
    PromptedObjectLoss()(logits, target).backward()
    assert logits.grad is not None
    assert not logits.grad[0].any() and not logits.grad[1, :, :, :2].any()
    assert logits.grad[1, :, :, 2:].all()
    nobody = torch.randn(2, 1, 8, 8, requires_grad=True)
    loss = PromptedObjectLoss()(nobody, torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))
    loss.backward()
    assert loss == 0 and nobody.grad is not None and not nobody.grad.any()


def test_labels_and_objects_are_learnt_from_their_own_outputs() -> None:
    labels, objects = DiceCrossEntropyLoss(), PromptedObjectLoss()
    heads = [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4)]
    target = torch.cat([torch.randint(3, (2, 1, 8, 8), dtype=torch.uint8), target_of(2, 4)], 1)
    expected = labels([head[:, :3] for head in heads], target[:, :1]) + objects(
        [head[:, 3:] for head in heads], target[:, 1:]
    )
    assert PromptedLoss(labels, objects)(heads, target) == pytest.approx(float(expected))
    annotated = torch.tensor([[True, True, False]] * 2)
    assert PromptedLoss(labels, objects)(heads, target, annotated=annotated) != pytest.approx(float(expected))
