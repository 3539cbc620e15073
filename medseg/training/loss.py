"""The loss: Dice and cross-entropy, summed over the heads of deep supervision."""

from collections.abc import Sequence

import torch
from torch import nn

from medseg.training.dice_ce import DiceCE


class SegmentationLoss(nn.Module):
    """Of logits (batch, label, *spatial), or of a list of them from full resolution down, against a label map
    (batch, 1, *spatial).

    Head ``i`` weighs ``1 / 2**i`` (Isensee et al. 2021), or as ``head_weights`` say; made to sum to one. Logits of the
    centre are compared with the centre of the label map.
    """

    def __init__(
        self,
        dice_weight: float,
        ce_weight: float,
        head_weights: Sequence[float] | None = None,
        margin: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.head_weights = head_weights
        self.centre = (slice(None), slice(None), *(slice(lost, -lost or None) for lost in margin))
        self.dice_ce = DiceCE(dice_weight, ce_weight)

    def forward(
        self,
        logits: torch.Tensor | Sequence[torch.Tensor],
        label: torch.Tensor,
        annotated: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``annotated`` (batch, label): which labels were drawn in each sample; None: all."""
        heads = [logits] if isinstance(logits, torch.Tensor) else list(logits)
        weights = self.head_weights or [0.5**i for i in range(len(heads))]
        label = label[self.centre]
        total = torch.zeros((), device=label.device)
        for head, weight in zip(heads, weights, strict=True):
            # Sums over many voxels need float32, whatever the network computed in.
            of_head = self.dice_ce(head.float(), shrunk(label, head.shape[2:]), annotated)
            total = total + weight / sum(weights) * of_head
        return total


def shrunk(label: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Every n-th voxel of the label map: those that strided convolutions are centred on."""
    steps = [-(-size // small) for size, small in zip(label.shape[2:], shape, strict=True)]
    return label[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
