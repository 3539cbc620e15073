"""The loss of objects beside that of labels."""

import pytest
import torch

from medseg.losses import DiceCrossEntropyLoss, ObjectLoss


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_labels_and_objects_are_learnt_from_outputs_of_their_own():
    label = (drawn(2, 1, 8, 8) > 0.5).to(torch.uint8)
    targets = drawn(2, 2, 8, 8) * label
    logits = (drawn(2, 4, 8, 8, seed=1) * 4 - 2).requires_grad_()
    labels = DiceCrossEntropyLoss()
    loss = ObjectLoss(labels, n_outputs=2, weight=0.5)(logits, label, targets=targets)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 2:], targets, reduction="none").mean(1)
    inside = (targets > 0).any(1)
    wanted = labels(logits[:, :2], label) + 0.5 * (entropy[inside].mean() + entropy[~inside].mean())
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_what_nobody_annotated_changes_nothing():
    label, targets = torch.ones(1, 1, 8, 8, dtype=torch.uint8), drawn(1, 1, 8, 8)
    label[..., 4:] = 255
    logits = drawn(1, 3, 8, 8).requires_grad_()
    ObjectLoss(DiceCrossEntropyLoss(), n_outputs=1)(logits, label, targets=targets).backward()
    assert not logits.grad[..., 4:].any()
    assert logits.grad[:, 2, :, :4].all()


def test_coarser_heads_learn_objects_too():
    label, targets = torch.ones(1, 1, 8, 8, dtype=torch.uint8), drawn(1, 1, 8, 8)
    heads = [torch.zeros(1, 3, 8, 8, requires_grad=True), torch.zeros(1, 3, 4, 4, requires_grad=True)]
    ObjectLoss(DiceCrossEntropyLoss(), n_outputs=1)(heads, label, targets=targets).backward()
    assert all(head.grad[:, 2].any() for head in heads)
    whole = ObjectLoss(DiceCrossEntropyLoss(), n_outputs=1, head_weights=(1.0, 0.0))
    alone = ObjectLoss(DiceCrossEntropyLoss(), n_outputs=1)
    expected = alone(heads[0], label, targets=targets) - DiceCrossEntropyLoss()(heads[0][:, :2], label)
    given = whole(heads, label, targets=targets) - DiceCrossEntropyLoss()([head[:, :2] for head in heads], label)
    assert given.item() == pytest.approx(expected.item(), rel=1e-5)
