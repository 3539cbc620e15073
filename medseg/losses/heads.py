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

    Examples:
        A loss of your own:

        >>> import torch
        >>> from medseg.losses import HeadsLoss
        >>> class CrossEntropy(HeadsLoss):
        ...     def losses(self, heads, targets, annotated):
        ...         pairs = zip(heads, targets, strict=True)
        ...         return [torch.nn.functional.cross_entropy(head, target[:, 0].long()) for head, target in pairs]
        >>> heads = [torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 8, 8)]  # from the finest down
        >>> loss = CrossEntropy(head_weights=(0.7, 0.3))(heads, torch.ones(2, 1, 16, 16))
        >>> round(loss.item(), 3)  # the logarithm of 3
        1.099
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

        Raises:
            ValueError: The target is no label map of the logits' batch and shape, ``annotated`` is none of its batch,
                or there are more or fewer heads than ``head_weights``.
        """
        cast = in_float32(logits)
        heads = [cast] if isinstance(cast, torch.Tensor) else cast
        weights = self.head_weights or [0.5**i for i in range(len(heads))]
        if len(weights) != len(heads):
            raise ValueError(f"head_weights: {len(weights)} numbers for logits of {len(heads)} heads")
        targets = self._targets(heads, target)
        if annotated is not None and (
            annotated.dtype != torch.bool or annotated.ndim != 2 or len(annotated) != len(target)
        ):
            raise ValueError(
                f"annotated {tuple(annotated.shape)}, {annotated.dtype}: give (batch, label), bool, of {len(target)} "
                "samples"
            )
        losses = self.losses(heads, targets, annotated)
        weighed = [weight * loss for weight, loss in zip(weights, losses, strict=True)]
        return torch.stack(weighed).sum() / sum(weights)

    def _targets(self, heads: Sequence[torch.Tensor], target: torch.Tensor) -> list[torch.Tensor]:
        """Returns the target at the resolution of each head.

        Raises:
            ValueError: It does not fit the heads.
        """
        finest = heads[0]
        if target.ndim != finest.ndim or target.shape[1] != 1 or len(target) != len(finest):
            raise ValueError(
                f"target {tuple(target.shape)} of logits {tuple(finest.shape)}: give the label map, "
                f"({len(finest)}, 1, *spatial); target.argmax(1, keepdim=True) makes it of one-hot masks, "
                "target.unsqueeze(1) of one without channels"
            )
        within = target[self.centre]
        targets = [subsampled(within, head.shape[2:]) for head in heads]
        for head, found in zip(heads, targets, strict=True):
            if found.shape[2:] != head.shape[2:]:
                raise ValueError(
                    f"target {tuple(target.shape)} of logits {tuple(head.shape)}: they have to be of one spatial shape "
                    "(less the margin, and at the resolution of the head)"
                )
        return targets

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
    """Returns logits, or a list of them, in float32, which sums over many voxels need.

    Examples:
        >>> import torch
        >>> from medseg.losses import in_float32
        >>> in_float32(torch.zeros(1, 2, 8, 8, dtype=torch.bfloat16)).dtype
        torch.float32
    """
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

    Examples:
        >>> import torch
        >>> from medseg.losses import subsampled
        >>> subsampled(torch.arange(8).view(1, 1, 8), [4])
        tensor([[[0, 2, 4, 6]]])
    """
    steps = [-(-size // small) for size, small in zip(target.shape[2:], shape, strict=True)]
    return target[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
