"""The loss of what is learnt of single objects, beside the loss of labels."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from medseg.labels import IGNORED
from medseg.losses.heads import Heads, subsampled


class ObjectLoss(nn.Module):
    """A loss of labels, and binary cross-entropies of the outputs behind theirs, whose targets lie between 0 and 1.

    The mean over the voxels of objects, whose target is above 0, and that over all others count alike: most voxels of
    an image may be background, of which there is little to learn. Voxels that nobody annotated count nothing.

    Attributes:
        wants_targets: Tells the trainer to give the targets of objects.

    Args:
        loss: Of ``(logits, target)`` of the labels or regions, and of whatever else the trainer gives.
        n_outputs: How many outputs are of objects; they are the last ones.
        weight: Of their loss.
        head_weights: Weight of each head of deep supervision, from the finest down. They are made to sum to one. None:
            ``1 / 2**i``.
        reduce: Sums a tensor over several processes; see ``DiceCrossEntropyLoss``.

    Examples:
        >>> import torch
        >>> from medseg.losses import DiceCrossEntropyLoss
        >>> loss = ObjectLoss(DiceCrossEntropyLoss(), n_outputs=1)
        >>> logits = torch.zeros(2, 3, 8, 8, requires_grad=True)  # the background, a label, and the depth in an object
        >>> label, depth = torch.ones(2, 1, 8, 8, dtype=torch.uint8), torch.full((2, 1, 8, 8), 0.5)
        >>> loss(logits, label, targets=depth).backward()
        >>> logits.grad[:, 2].abs().max().item()  # 0 means a half
        0.0
    """

    wants_targets = True

    def __init__(
        self,
        loss: nn.Module,
        *,
        n_outputs: int,
        weight: float = 1.0,
        head_weights: Sequence[float] | None = None,
        reduce: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.loss, self.n_outputs, self.weight = loss, n_outputs, weight
        self.head_weights, self.reduce = head_weights, reduce
        self.wants_image = getattr(loss, "wants_image", False)

    def forward(self, logits: Heads, target: torch.Tensor, *, targets: torch.Tensor, **more: object) -> torch.Tensor:
        """Returns the loss, a float32 scalar.

        Args:
            logits: ``(batch, output, *spatial)``, or a list of them from the finest head down.
            target: Of the labels, ``(batch, 1, *spatial)``: network values.
            targets: Of objects, ``(batch, output of objects, *spatial)``, 0 … 1.
            **more: As the loss of labels takes it.
        """
        heads = [logits] if isinstance(logits, torch.Tensor) else list(logits)
        first = [head[:, : -self.n_outputs] for head in heads]
        of_labels: torch.Tensor = self.loss(first[0] if isinstance(logits, torch.Tensor) else first, target, **more)
        weights = self.head_weights or [0.5**i for i in range(len(heads))]
        each = [self._of_head(head[:, -self.n_outputs :].float(), target, targets) for head in heads]
        of_objects = sum(weight * loss for weight, loss in zip(weights, each, strict=True)) / sum(weights)
        return of_labels + self.weight * of_objects

    def _of_head(self, logits: torch.Tensor, target: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = subsampled(target, logits.shape[2:]) != IGNORED
        wanted = subsampled(targets, logits.shape[2:]).to(logits)
        entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1, keepdim=True)
        inside = ((wanted > 0).any(1, keepdim=True) & known).to(entropy)
        outside = known.to(entropy) - inside
        sums = torch.stack([(entropy * inside).sum(), inside.sum(), (entropy * outside).sum(), outside.sum()])
        if self.reduce is not None:
            sums = self.reduce(sums)
        return sums[0] / sums[1].clamp(min=1) + sums[2] / sums[3].clamp(min=1)
