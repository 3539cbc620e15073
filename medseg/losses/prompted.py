"""The loss of networks that take prompts: of their labels, and of the object that was prompted."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from medseg.labels import IGNORED
from medseg.losses.dice_cross_entropy import SMOOTH
from medseg.losses.heads import Heads, HeadsLoss


class PromptedObjectLoss(HeadsLoss):
    """Dice and binary cross-entropy of one sigmoid, sample by sample.

    Dice is taken of each sample alone, since each has an object of its own, and small ones count as much as large ones.
    Voxels of 255 count nothing; samples that have no other ones, since nobody prompted there, don't either.

    Args:
        head_weights: Weight of each head, from the finest down. None: ``1 / 2**i``.
        reduce: Sums a tensor over several processes, through which gradients flow. None: there is one.

    Examples:
        >>> import torch
        >>> target = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
        >>> target[0, :, 1:3], target[1] = 1, 255  # the second sample has no prompt
        >>> logits = torch.full((2, 1, 4, 4), -99.0)
        >>> logits[0, :, 1:3] = 99
        >>> round(PromptedObjectLoss()(logits, target).item(), 4)
        0.0
    """

    def __init__(
        self,
        head_weights: Sequence[float] | None = None,
        reduce: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__(head_weights)
        self.reduce = reduce

    def losses(
        self, heads: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], annotated: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns the loss of each head, ``(head,)``."""
        each = torch.stack([_sums(head, target) for head, target in zip(heads, targets, strict=True)])
        if self.reduce is not None:
            each = self.reduce(each)
        return each[:, 0] / each[:, 1].clamp(min=1)


def _sums(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns the sum of the losses of all samples with a prompt, and how many there are, ``(2,)``."""
    logits, target = logits.flatten(1), target.flatten(1)
    known, reference = (target != IGNORED).float(), (target == 1).float()
    probability = logits.sigmoid() * known
    overlap, sizes = (probability * reference).sum(1), probability.sum(1) + reference.sum(1)
    entropy = functional.binary_cross_entropy_with_logits(logits, reference, weight=known, reduction="none").sum(1)
    n_known = known.sum(1)
    loss = 1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH) + entropy / n_known.clamp(min=1)
    prompted = (n_known > 0).float()
    return torch.stack([(loss * prompted).sum(), prompted.sum()])


class PromptedLoss(nn.Module):
    """The sum of the loss of the labels and that of the prompted object.

    Args:
        labels: The loss of all outputs but the last one, a module of (logits, target).
        objects: The loss of the last output, "object".

    Examples:
        >>> import torch
        >>> from medseg.losses import DiceCrossEntropyLoss, PromptedLoss, PromptedObjectLoss
        >>> loss = PromptedLoss(DiceCrossEntropyLoss(), PromptedObjectLoss())
        >>> target = torch.ones(2, 2, 8, 8, dtype=torch.uint8)  # label map and object
        >>> loss(torch.zeros(2, 4, 8, 8), target).ndim  # background, two labels, object
        0
    """

    def __init__(self, labels: nn.Module, objects: nn.Module) -> None:
        super().__init__()
        self.labels, self.objects = labels, objects
        self.wants_targets = getattr(labels, "wants_targets", False)  # of single objects, in outputs before the last

    def forward(self, logits: Heads, target: torch.Tensor, **known: Any) -> torch.Tensor:
        """Returns the loss, a float32 scalar.

        Args:
            logits: ``(batch, output, *spatial)``, of which the last one is the object; or a list of them.
            target: ``(batch, 2, *spatial)``: the label map as the loss of labels takes it, and the object: 1, 0, or 255
                where nobody prompted.
            **known: What the loss of labels takes beside that.
        """
        heads = [logits] if isinstance(logits, torch.Tensor) else list(logits)
        labels = self.labels(_like(logits, [head[:, :-1] for head in heads]), target[:, :1], **known)
        return torch.add(labels, self.objects(_like(logits, [head[:, -1:] for head in heads]), target[:, 1:]))


def _like(logits: Heads, heads: list[torch.Tensor]) -> Heads:
    return heads[0] if isinstance(logits, torch.Tensor) else heads
