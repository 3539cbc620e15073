"""The loss: Dice and cross-entropy, summed over the heads of deep supervision."""

from collections.abc import Sequence

import torch
from torch import nn

from medseg.plan import LearntRegion
from medseg.process_group import ALONE, ProcessGroup
from medseg.training.voxel_sums import LabelSums, RegionSums

# As nnU-Net: enough to keep a label that is absent from the batch from dividing zero by zero.
SMOOTH = 1e-5


class SegmentationLoss(nn.Module):
    """Of logits (batch, label, *spatial), or of a list of them from full resolution down, against a label map
    (batch, 1, *spatial). With ``regions`` the logits are theirs: (batch, region, *spatial).

    Head ``i`` weighs ``1 / 2**i`` (Isensee et al. 2021), or as ``head_weights`` say; made to sum to one. Logits of the
    centre are compared with the centre of the label map. Dice is taken over the whole batch, without the background,
    which is steadier for structures that many patches don't hold; cross-entropy is the mean over the voxels. Voxels
    that are ``IGNORED`` count nothing, as if they were cut away. Both are made of sums over voxels, which all processes
    add up: each process then has the loss of the batch that is shared out to them.
    """

    def __init__(
        self,
        dice_weight: float,
        ce_weight: float,
        head_weights: Sequence[float] | None = None,
        margin: Sequence[int] = (),
        regions: Sequence[LearntRegion] = (),
        processes: ProcessGroup = ALONE,
    ) -> None:
        super().__init__()
        self.head_weights = head_weights
        self.centre = (slice(None), slice(None), *(slice(lost, -lost or None) for lost in margin))
        self.dice_weight, self.ce_weight = dice_weight, ce_weight
        self.sums = RegionSums(regions) if regions else LabelSums()
        self.processes = processes

    def forward(
        self,
        logits: torch.Tensor | Sequence[torch.Tensor],
        label: torch.Tensor,
        annotated: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``annotated`` (batch, network value): which labels were drawn in each sample; None: all."""
        heads = [logits] if isinstance(logits, torch.Tensor) else list(logits)
        weights = self.head_weights or [0.5**i for i in range(len(heads))]
        label = label[self.centre]
        # Sums over many voxels need float32, whatever the network computed in.
        each = torch.stack([self.sums(head.float(), shrunk(label, head.shape[2:]), annotated) for head in heads])
        n = (each.shape[1] - 2) // 2
        overlap, sizes, entropy, voxels = self.processes.sum(each).tensor_split((n, 2 * n, 2 * n + 1), 1)
        dice = (1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)).mean(1)
        losses = self.dice_weight * dice + self.ce_weight * (entropy / voxels.clamp(min=1)).squeeze(1)
        weighed = [weight * loss for weight, loss in zip(weights, losses, strict=True)]
        return torch.stack(weighed).sum() / sum(weights)


def shrunk(label: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Every n-th voxel of the label map: those that strided convolutions are centred on."""
    steps = [-(-size // small) for size, small in zip(label.shape[2:], shape, strict=True)]
    return label[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
