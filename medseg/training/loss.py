"""The loss: Dice and cross-entropy (``monai.losses.DiceCELoss``; of regions ``RegionLoss``), summed over the heads of
deep supervision."""

from collections.abc import Sequence

import torch
from monai.losses import DiceCELoss
from torch import nn

from medseg.plan import LearntRegion
from medseg.training.region_loss import RegionLoss

# As nnU-Net: enough to keep a label that is absent from the batch from dividing zero by zero.
SMOOTH = 1e-5


class SegmentationLoss(nn.Module):
    """Of logits (batch, output, *spatial), or of a list of them from full resolution down, against a label map
    (batch, 1, *spatial). Outputs are labels, or ``regions``.

    Head ``i`` weighs ``1 / 2**i`` (Isensee et al. 2021), or as ``head_weights`` say; made to sum to one. Logits of the
    centre are compared with the centre of the label map. Dice is taken over the whole batch
    and the labels without the background, which is steadier for structures that many patches don't hold.
    """

    def __init__(
        self,
        dice_weight: float,
        ce_weight: float,
        head_weights: Sequence[float] | None = None,
        margin: Sequence[int] = (),
        regions: Sequence[LearntRegion] = (),
    ) -> None:
        super().__init__()
        self.head_weights = head_weights
        self.centre = (slice(None), slice(None), *(slice(lost, -lost or None) for lost in margin))
        self.dice_ce: nn.Module = (
            RegionLoss(regions, dice_weight, ce_weight, SMOOTH)
            if regions
            else DiceCELoss(
                include_background=False,
                to_onehot_y=True,
                softmax=True,
                batch=True,
                smooth_nr=SMOOTH,
                smooth_dr=SMOOTH,
                lambda_dice=dice_weight,
                lambda_ce=ce_weight,
            )
        )

    def forward(self, logits: torch.Tensor | Sequence[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        heads = [logits] if isinstance(logits, torch.Tensor) else list(logits)
        weights = self.head_weights or [0.5**i for i in range(len(heads))]
        label = label[self.centre]
        total = torch.zeros((), device=label.device)
        for head, weight in zip(heads, weights, strict=True):
            # Sums over many voxels need float32, whatever the network computed in.
            total = total + weight / sum(weights) * self.dice_ce(head.float(), shrunk(label, head.shape[2:]))
        return total


def shrunk(label: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Every n-th voxel of the label map: those that strided convolutions are centred on."""
    steps = [-(-size // small) for size, small in zip(label.shape[2:], shape, strict=True)]
    return label[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
