"""Losses of one or several heads: what all losses of deep supervision have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

Heads = torch.Tensor | Sequence[torch.Tensor]


class HeadsLoss(nn.Module, ABC):
    """The base of losses of (logits, target), where logits may be a list of them, one a head.

    The target is cut to what the logits are of, and subsampled to the resolution of each head. The losses of the heads
    are averaged by their weights.

    Source: Lee et al. 2015, arXiv:1409.5185 (deep supervision); Isensee et al. 2021, doi:10.1038/s41592-020-01008-z
    (the weights).

    Args:
        head_weights: Weight of each head, from the finest down. They are made to sum to one. None: ``1 / 2**i``.
        margin: Voxels by which the logits are smaller than the target on each side of each spatial axis, as with
            valid convolutions. The logits are compared with the centre of the target.
    """

    def __init__(self, head_weights: Sequence[float] | None = None, margin: Sequence[int] = ()) -> None:
        super().__init__()
        self.head_weights = head_weights
        self.centre = centre_within(margin)

    def forward(self, logits: Heads, target: torch.Tensor, annotated: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the loss, a float32 scalar.

        Args:
            logits: ``(batch, label, *spatial)``, the background among the labels, or ``(batch, region, *spatial)``. Or
                a list of these, one a head, from full resolution down.
            target: ``(batch, 1, *spatial)``: the network value of each voxel, of any integer type; 0 is background,
                255 is ignored.
            annotated: ``(batch, label)``, bool: which labels were annotated in each sample. None: all.
        """
        cast = in_float32(logits)
        heads = [cast] if isinstance(cast, torch.Tensor) else cast
        weights = self.head_weights or [0.5**i for i in range(len(heads))]
        target = target[self.centre]
        losses = self.losses(heads, [subsampled(target, head.shape[2:]) for head in heads], annotated)
        weighed = [weight * loss for weight, loss in zip(weights, losses, strict=True)]
        return torch.stack(weighed).sum() / sum(weights)

    @abstractmethod
    def losses(
        self, heads: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], annotated: torch.Tensor | None
    ) -> Sequence[torch.Tensor] | torch.Tensor:
        """Returns the loss of each head, a scalar each.

        Args:
            heads: Logits in float32, from the finest down.
            targets: The label map at the resolution of each head.
            annotated: As ``forward`` has it.
        """


def in_float32(logits: Heads) -> Heads:
    """Returns logits, or a list of them, in float32, which sums over many voxels need."""
    return logits.float() if isinstance(logits, torch.Tensor) else [head.float() for head in logits]


def centre_within(margin: Sequence[int]) -> tuple[slice, ...]:
    """Returns the index of a batch ``(batch, channel, *spatial)`` without ``margin`` voxels on each side of each
    spatial axis."""
    return (slice(None), slice(None), *(slice(lost, -lost or None) for lost in margin))


def subsampled(target: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Returns every n-th voxel of the target: those that strided convolutions are centred on.

    Args:
        target: ``(batch, channel, *spatial)``.
        shape: The spatial shape of a head.

    Returns:
        A view, ``(batch, channel, *shape)``.
    """
    steps = [-(-size // small) for size, small in zip(target.shape[2:], shape, strict=True)]
    return target[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
