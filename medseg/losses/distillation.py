"""What a smaller network learns from a larger one, beside the labels."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from medseg.losses.heads import Heads, centre_within, subsampled

# Hinton et al. use 2 to 5 for small networks; at 2 the margins between labels stay those of the teacher.
TEMPERATURE = 2.0


class DistillationLoss(nn.Module):
    """A loss of labels, and how far the probabilities are from those of a teacher.

    The second part is the Kullback-Leibler divergence of the finest head from the teacher, both softened by a
    temperature, as a mean over the voxels; where regions are learnt, that of each sigmoid. Voxels that nobody annotated
    count in it too: the teacher says something of them.

    Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2.

    Attributes:
        wants_image: Tells the trainer to give the image, which the teacher has to see as well.

    Args:
        loss: Of ``(logits, target)``, and of ``annotated`` where some labels were not annotated.
        teacher: From images ``(batch, channel, *spatial)`` to logits ``(batch, output, *spatial)``.
        weight: Of the second part.
        temperature: Divides all logits before the probabilities are made of them.
        regions: Whether outputs are regions, a sigmoid each.
        others: How many outputs, the last ones, are of single objects, and learnt from their targets alone.

    Examples:
        >>> import torch
        >>> from medseg.losses import DiceCrossEntropyLoss, DistillationLoss
        >>> image, target = torch.randn(1, 1, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.uint8)
        >>> loss = DistillationLoss(DiceCrossEntropyLoss(), torch.nn.Conv2d(1, 2, 3, padding=1))
        >>> student = torch.nn.Conv2d(1, 2, 1)
        >>> loss(student(image), target, image=image).backward()
    """

    wants_image = True

    def __init__(
        self,
        loss: nn.Module,
        teacher: Callable[[torch.Tensor], torch.Tensor],
        *,
        weight: float = 1.0,
        temperature: float = TEMPERATURE,
        regions: bool = False,
        others: int = 0,
    ) -> None:
        super().__init__()
        self.loss = loss
        # In a tuple it is no part of this module: its weights stay where they are, and it stays in evaluation mode.
        self.teacher = (teacher,)
        self.weight, self.temperature, self.regions, self.others = weight, temperature, regions, others
        self.wants_targets = getattr(loss, "wants_targets", False)

    def forward(
        self, logits: Heads, target: torch.Tensor, *, image: torch.Tensor, **more: torch.Tensor
    ) -> torch.Tensor:
        """Returns the loss, a float32 scalar.

        Args:
            logits: Of the student, ``(batch, output, *spatial)``, or a list of them from the finest down.
            target: As ``loss`` takes it.
            image: What the student saw, ``(batch, channel, *spatial)``.
            **more: As ``loss`` takes it.
        """
        of_labels: torch.Tensor = self.loss(logits, target, **more)
        finest = logits if isinstance(logits, torch.Tensor) else logits[0]
        finest = finest[:, : finest.shape[1] - self.others]
        with torch.no_grad():
            theirs = self.teacher[0](image)
            theirs = theirs[:, : theirs.shape[1] - self.others]
            lost = [(a - b) // 2 for a, b in zip(theirs.shape[2:], target.shape[2:], strict=True)]
            theirs = subsampled(theirs[centre_within(lost)], finest.shape[2:]).float() / self.temperature
        ours = finest.float() / self.temperature
        # Gradients of softened probabilities shrink with the square of the temperature.
        return of_labels + self.weight * self.temperature**2 * self._divergence(ours, theirs)

    def _divergence(self, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        if self.regions:
            probability = theirs.sigmoid()
            cross = functional.binary_cross_entropy_with_logits(ours, probability)
            return cross - functional.binary_cross_entropy_with_logits(theirs, probability)
        voxels = ours.numel() / ours.shape[1]
        pair = functional.log_softmax(ours, 1), functional.log_softmax(theirs, 1)
        return functional.kl_div(*pair, reduction="sum", log_target=True) / voxels
