"""The loss of regions, which overlap: Dice and binary cross-entropy, as nnU-Net trains them (Isensee et al. 2021)."""

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from medseg.plan import LearntRegion


class RegionLoss(nn.Module):
    """Of logits (batch, region, *spatial) against a label map (batch, 1, *spatial) in network values: for each region
    by itself, in the mean over them. Dice is taken over the whole batch."""

    def __init__(self, regions: Sequence[LearntRegion], dice_weight: float, ce_weight: float, smooth: float) -> None:
        super().__init__()
        self.holds = torch.zeros(len(regions), 256, dtype=torch.bool)  # whether a region holds a network value
        for own, region in zip(self.holds, regions, strict=True):
            own[list(region.values)] = True
        self.dice_weight, self.ce_weight = dice_weight, ce_weight
        self.dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=smooth, smooth_dr=smooth)

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        masks = self.masks(label).to(logits)
        dice: torch.Tensor = self.dice(logits, masks)
        return self.dice_weight * dice + self.ce_weight * binary_cross_entropy_with_logits(logits, masks)

    def masks(self, label: torch.Tensor) -> torch.Tensor:
        """Where each region is: (batch, region, *spatial), bool."""
        return self.holds.to(label.device)[:, label[:, 0].long()].transpose(0, 1)
