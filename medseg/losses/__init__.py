"""Losses of (logits, target), as PyTorch modules.

Each can be used alone, in any training loop, and exchanged with those of ``monai.losses``.

Example:
    >>> import torch
    >>> from medseg.losses import DiceCrossEntropyLoss
    >>> logits = torch.zeros(2, 3, 8, 8, 8, requires_grad=True)  # (batch, label, x, y, z)
    >>> target = torch.ones(2, 1, 8, 8, 8, dtype=torch.uint8)  # (batch, 1, x, y, z): label 1 everywhere
    >>> loss = DiceCrossEntropyLoss()(logits, target)
    >>> round(loss.item(), 3)
    1.849
"""

from medseg.losses.adapted import AdaptedLoss
from medseg.losses.components import BlobLoss, ConnectedComponentsLoss
from medseg.losses.dice_cross_entropy import DiceCrossEntropyLoss
from medseg.losses.distillation import DistillationLoss
from medseg.losses.heads import HeadsLoss, in_float32, subsampled
from medseg.losses.objects import ObjectLoss
from medseg.losses.prompted import PromptedLoss, PromptedObjectLoss
from medseg.losses.registry import create_loss, loss_for, monai_losses
from medseg.losses.tubes import CentrelineDiceLoss, SkeletonRecallLoss
from medseg.losses.voxel_sums import LabelSums, RegionSums, Voxels, merged
from medseg.losses.weighed import DiceFocalLoss, TverskyCrossEntropyLoss

__all__ = [
    "AdaptedLoss", "BlobLoss", "CentrelineDiceLoss", "ConnectedComponentsLoss", "DiceCrossEntropyLoss",
    "DiceFocalLoss", "DistillationLoss", "HeadsLoss", "LabelSums", "ObjectLoss", "PromptedLoss",
    "PromptedObjectLoss", "RegionSums", "SkeletonRecallLoss", "TverskyCrossEntropyLoss", "Voxels", "create_loss",
    "in_float32", "loss_for", "merged", "monai_losses", "subsampled",
]  # fmt: skip
