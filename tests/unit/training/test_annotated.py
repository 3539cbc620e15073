"""The loss of what was annotated, by hand and by what it must not depend on."""

import math

import pytest
import torch

from medseg.decoding import SOFTMAX
from medseg.labels import IGNORED
from medseg.losses import DiceCrossEntropyLoss, merged
from medseg.training.epoch import confusion


def random_logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def random_label(*shape: int, high: int = 3) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_ignoring_equals_cutting_away() -> None:
    logits, label = random_logits(2, 3, 6, 8), random_label(2, 1, 6, 8)
    cut = DiceCrossEntropyLoss(1, 1)(logits[..., :5], label[..., :5])
    label[..., 5:] = IGNORED
    assert float(DiceCrossEntropyLoss(1, 1)(logits, label)) == pytest.approx(float(cut))


def test_ignored_voxels_have_no_gradient_in_any_head() -> None:
    heads = [random_logits(1, 3, 8, 8), random_logits(1, 3, 4, 4)]
    label = random_label(1, 1, 8, 8)
    label[..., 4:] = IGNORED
    DiceCrossEntropyLoss(1, 1)(heads, label).backward()
    for head in heads:
        known = head.shape[-1] // 2
        assert head.grad is not None
        assert bool((head.grad[..., :known] != 0).all())
        assert not head.grad[..., known:].any()


@pytest.mark.parametrize("annotated", [None, torch.tensor([[True, True, False]])])
def test_a_patch_without_any_annotation_is_finite_and_teaches_nothing(annotated: torch.Tensor | None) -> None:
    logits = random_logits(1, 3, 4, 4, 4)
    loss = DiceCrossEntropyLoss(1, 1)(logits, torch.full((1, 1, 4, 4, 4), IGNORED, dtype=torch.uint8), annotated)
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_partly_annotated_sample_by_hand() -> None:
    """Two voxels, three labels; of the labels 1 and 2 only 1 was annotated."""
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    logits, label = probabilities.log().T[None], torch.tensor([[[1, 0]]], dtype=torch.uint8)
    annotated = torch.tensor([[True, True, False]])
    ce = -(math.log(0.3) + math.log(0.2 + 0.6)) / 2
    assert float(DiceCrossEntropyLoss(0, 1)(logits, label, annotated)) == pytest.approx(ce)
    dice = 2 * 0.3 / (0.3 + 0.2 + 1)  # of label 1; nothing is known of label 2, which costs nothing
    assert float(DiceCrossEntropyLoss(1, 0)(logits, label, annotated)) == pytest.approx(1 - (dice + 1) / 2, abs=1e-4)


def test_labels_that_were_not_annotated_are_not_told_from_the_background() -> None:
    """The loss depends on the sum of their probabilities alone: each has its share of the gradient."""
    logits, label = random_logits(1, 4, 6, 6), random_label(1, 1, 6, 6, high=2)
    annotated = torch.tensor([[True, True, False, False]])
    DiceCrossEntropyLoss(1, 1)(logits, label, annotated).backward()
    assert logits.grad is not None
    share = logits.grad / logits.detach().softmax(1)
    for unknown in (2, 3):
        torch.testing.assert_close(share[:, unknown], share[:, 0])
    assert not torch.allclose(share[:, 1], share[:, 0])


def test_all_labels_annotated_is_the_plain_loss() -> None:
    logits, label = random_logits(2, 3, 5, 5), random_label(2, 1, 5, 5)
    annotated = torch.ones(2, 3, dtype=torch.bool)
    loss = DiceCrossEntropyLoss(1, 1)
    torch.testing.assert_close(merged(logits, annotated), logits)
    assert float(loss(logits, label, annotated)) == pytest.approx(float(loss(logits, label)))


def test_each_sample_of_a_batch_has_its_own_labels() -> None:
    logits, label = random_logits(2, 3, 5, 5), random_label(2, 1, 5, 5)
    label[1][label[1] == 2] = 0
    annotated = torch.tensor([[True, True, True], [True, True, False]])
    ce = DiceCrossEntropyLoss(0, 1)
    alone = [float(ce(logits[i : i + 1], label[i : i + 1], annotated[i : i + 1])) for i in (0, 1)]
    assert float(ce(logits, label, annotated)) == pytest.approx(sum(alone) / 2)
    p, true = logits.softmax(1), [(label == value).float() for value in (1, 2)]
    first = 2 * (p[:, 1:2] * true[0]).sum() / (p[:, 1].sum() + true[0].sum())
    second = 2 * (p[:1, 2:3] * true[1][:1]).sum() / (p[:1, 2].sum() + true[1][:1].sum())
    assert float(DiceCrossEntropyLoss(1, 0)(logits, label, annotated)) == pytest.approx(
        float(1 - (first + second) / 2), abs=1e-5
    )


def test_the_dice_of_patches_leaves_out_what_is_unknown() -> None:
    label = torch.tensor([[[0, 1, 2, IGNORED]], [[0, 1, 0, 0]]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 1, 1, 2], [2, 2, 1, 0]])
    logits = torch.nn.functional.one_hot(predicted, 3).permute(0, 2, 1).float()
    plain = confusion(logits[:1], label[:1], SOFTMAX)
    assert plain.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    partly = confusion(logits, label, SOFTMAX, torch.tensor([[True, True, True], [True, True, False]]))
    assert (partly - plain).tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_regions_with_a_label_that_was_not_annotated_count_nothing_in_that_sample() -> None:
    whole, core = (1, 2), (1,)
    logits, label = random_logits(2, 2, 6, 5), random_label(2, 1, 6, 5)
    label[..., 4:] = IGNORED
    annotated = torch.tensor([[True, True, True], [True, True, False]])
    loss = DiceCrossEntropyLoss(1, 1, regions=(whole, core))(logits, label, annotated)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[..., 4:].any()
    assert not logits.grad[1, 0].any()
    assert bool((logits.grad[1, 1, :, :4] != 0).all())
    alone = DiceCrossEntropyLoss(0, 1, regions=(whole, core))
    first, second = (logits[:1, ..., :4], label[:1, ..., :4]), (logits[1:, 1:, :, :4], label[1:, ..., :4])
    sums = 2 * alone(*first) + DiceCrossEntropyLoss(0, 1, regions=(core,))(*second)
    assert float(alone(logits, label, annotated)) == pytest.approx(float(sums / 3), rel=1e-5)
