"""What a smaller network learns from a larger one."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from medseg.losses import DiceCrossEntropyLoss, DistillationLoss


class Nothing(nn.Module):
    """A loss of labels that is zero, so that what the teacher says stands alone."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.zeros(())


def test_the_divergence_is_that_of_the_softened_probabilities() -> None:
    ours, theirs = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    loss = DistillationLoss(Nothing(), lambda image: theirs, weight=0.5, temperature=2.0)
    p, q = (theirs / 2).softmax(1), (ours / 2).softmax(1)
    wanted = 0.5 * 4 * (p * (p / q).log()).sum(1).mean()
    target = torch.zeros(2, 1, 4, 4, 4)
    assert loss(ours, target, image=torch.zeros(2, 1, 4, 4, 4)).item() == pytest.approx(wanted.item(), rel=1e-4)
    assert loss(theirs, target, image=torch.zeros(2, 1, 4, 4, 4)).item() == pytest.approx(0.0, abs=1e-6)


def test_of_regions_each_sigmoid_counts() -> None:
    ours, theirs = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
    loss = DistillationLoss(Nothing(), lambda image: theirs, temperature=1.0, regions=True)
    p, q = theirs.sigmoid(), ours.sigmoid()
    wanted = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    found = loss(ours, torch.zeros(1, 1, 4, 4), image=torch.zeros(1, 1, 4, 4))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_finest_head_is_compared_at_its_resolution_and_within_its_margin() -> None:
    theirs = torch.randn(1, 2, 12, 12)
    loss = DistillationLoss(Nothing(), lambda image: theirs)
    heads = [theirs[:, :, 2:-2:2, 2:-2:2], torch.randn(1, 2, 2, 2)]  # valid convolutions, at half the resolution
    found = loss(heads, torch.zeros(1, 1, 8, 8), image=torch.zeros(1, 1, 12, 12))
    assert found.item() == pytest.approx(0.0, abs=1e-6)


def test_gradients_reach_the_student_only() -> None:
    torch.manual_seed(0)
    teacher, student = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)
    image, target = torch.randn(1, 1, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    loss = DistillationLoss(DiceCrossEntropyLoss(), teacher)
    assert not list(loss.parameters())
    annotated = torch.tensor([[True, True, False]])
    loss(student(image), target, annotated=annotated, image=image).backward()
    assert teacher.weight.grad is None and student.weight.grad is not None


def test_a_student_comes_near_to_its_teacher() -> None:
    torch.manual_seed(0)
    teacher, student = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 3, 3, padding=1)
    loss, optimizer = DistillationLoss(Nothing(), teacher), torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(200):
        image = torch.randn(4, 1, 8, 8)
        optimizer.zero_grad()
        loss(student(image), torch.zeros(4, 1, 8, 8), image=image).backward()
        optimizer.step()
    image = torch.randn(4, 1, 8, 8)
    gap = functional.mse_loss(student(image).softmax(1), teacher(image).softmax(1))
    assert gap.item() < 1e-3
