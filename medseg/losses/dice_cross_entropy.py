"""Dice and cross-entropy, summed over the heads of deep supervision."""

from collections.abc import Callable, Sequence

import torch

from medseg.losses.heads import HeadsLoss
from medseg.losses.voxel_sums import LabelSums, RegionSums

# As nnU-Net: enough to keep a label that is absent from the batch from dividing zero by zero.
SMOOTH = 1e-5


class DiceCrossEntropyLoss(HeadsLoss):
    """The sum of a Dice loss and a cross-entropy, over all heads of deep supervision.

    Dice is taken over the whole batch and without the background, which is steadier for structures that many patches
    don't hold. Cross-entropy is the mean over the voxels. Of one head, with all voxels annotated, this is
    ``monai.losses.DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5,
    smooth_dr=1e-5)``. With regions it is nnU-Net's Dice and binary cross-entropy of sigmoids.

    Voxels of value 255 (``medseg.labels.IGNORED``) count nothing, as if they were cut away. Labels that were not
    annotated in a sample are merged with its background (see ``merged``).

    Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z (the two losses, and the weights of the heads).

    Args:
        dice_weight: Weight of the Dice loss; MONAI's ``lambda_dice``, by its name in the settings.
        ce_weight: Weight of the cross-entropy; MONAI's ``lambda_ce``.
        head_weights: Weight of each head, from the finest down. They are made to sum to one. None: ``1 / 2**i``.
        margin: Voxels by which the logits are smaller than the target on each side of each spatial axis, as with
            valid convolutions. The logits are compared with the centre of the target.
        regions: The labels that each region holds, where regions are learnt. Empty: labels are learnt, by one softmax.
        reduce: Sums a tensor over several processes, through which gradients flow. Each process then has the loss of
            the batch that is shared out to them. None: this process has the whole batch.

    Examples:
        >>> import torch
        >>> from medseg.losses import DiceCrossEntropyLoss
        >>> heads = [torch.zeros(2, 3, 16, 16, requires_grad=True), torch.zeros(2, 3, 8, 8)]  # from the finest down
        >>> target = torch.ones(2, 1, 16, 16, dtype=torch.uint8)
        >>> target[:, :, :4] = 255  # nobody annotated these voxels
        >>> value = DiceCrossEntropyLoss()(heads, target)
        >>> value.ndim
        0
        >>> value.backward()
        >>> heads[0].grad[:, :, :4].abs().max().item()
        0.0
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        *,
        head_weights: Sequence[float] | None = None,
        margin: Sequence[int] = (),
        regions: Sequence[Sequence[int]] = (),
        reduce: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__(head_weights, margin)
        self.dice_weight, self.ce_weight = dice_weight, ce_weight
        self.sums = RegionSums(regions) if regions else LabelSums()
        self.reduce = reduce

    def losses(
        self, heads: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], annotated: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns the loss of each head, ``(head,)``."""
        sums = [self.sums(head, target, annotated) for head, target in zip(heads, targets, strict=True)]
        each = torch.stack(sums)
        n = (each.shape[1] - 2) // 2
        if self.reduce is not None:
            each = self.reduce(each)
        overlap, sizes, entropy, voxels = each.tensor_split((n, 2 * n, 2 * n + 1), 1)
        dice = (1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)).mean(1)
        return self.dice_weight * dice + self.ce_weight * (entropy / voxels.clamp(min=1)).squeeze(1)
