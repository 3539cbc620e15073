"""Dice and cross-entropy, weighed otherwise: more for what is missed, or for voxels that are wrong."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from medseg.losses.dice_cross_entropy import SMOOTH, DiceCrossEntropyLoss
from medseg.losses.voxel_sums import Voxels


class WeighedLoss(DiceCrossEntropyLoss):
    """The base of losses that weigh the voxels of each head: the batch is that of this process."""

    def losses(
        self, heads: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], annotated: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns the loss of each head, ``(head,)``."""
        pairs = zip(heads, targets, strict=True)
        return torch.stack([self.of_head(self.sums.voxels(head, target, annotated)) for head, target in pairs])

    @abstractmethod
    def of_head(self, voxels: Voxels) -> torch.Tensor:
        """Returns the loss of one head, a scalar."""


class TverskyCrossEntropyLoss(WeighedLoss):
    """Dice in which voxels that are missed may cost more than false alarms, and cross-entropy.

    Each label or region has ``1 - TP / (TP + alpha FP + beta FN)``, over the batch of this process. With
    ``alpha = beta = 0.5`` it is Dice. With ``gamma`` above 1 what is found badly costs more: focal Tversky.

    Source: Salehi et al. 2017, MLMI, arXiv:1706.05721; Abraham and Khan 2019, ISBI, arXiv:1810.07842.

    Args:
        alpha: Weight of false alarms.
        beta: Weight of what is missed.
        gamma: The loss of each label is raised to ``1 / gamma``.
        **others: Those of ``DiceCrossEntropyLoss``; ``dice_weight`` is that of Tversky's part.

    Examples:
        >>> import torch
        >>> from medseg.losses import DiceCrossEntropyLoss, TverskyCrossEntropyLoss
        >>> logits, target = torch.randn(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
        >>> tversky = TverskyCrossEntropyLoss(alpha=0.5, beta=0.5)(logits, target)
        >>> torch.allclose(tversky, DiceCrossEntropyLoss()(logits, target), atol=1e-4)
        True
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0, **others: Any) -> None:
        super().__init__(**others)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def of_head(self, voxels: Voxels) -> torch.Tensor:
        """Returns the loss of one head, a scalar."""
        probability, reference, known, entropy = voxels
        axes = (0, *range(2, reference.ndim))
        found = (probability * reference).sum(axes)
        false_alarms = (probability * known).sum(axes) - found
        missed = reference.sum(axes) - found
        index = (found + SMOOTH) / (found + self.alpha * false_alarms + self.beta * missed + SMOOTH)
        # A root has no gradient at 0, where all is found.
        tversky = (1 - index).clamp(min=1e-7) ** (1 / self.gamma)
        return self.dice_weight * tversky.mean() + self.ce_weight * entropy.sum() / known.sum().clamp(min=1)


class DiceFocalLoss(WeighedLoss):
    """Dice, and a cross-entropy in which voxels that are nearly right hardly count.

    The cross-entropy of each voxel is weighed by ``(1 - p) ** gamma``, where ``p`` is the probability of what is true
    there; the mean goes over all voxels that are annotated. (``monai.losses.DiceFocalLoss`` divides by ignored voxels,
    and by the number of labels, too.)

    Source: Lin et al. 2017, ICCV, arXiv:1708.02002.

    Args:
        gamma: How much less voxels count that are nearly right. 0: cross-entropy.
        **others: Those of ``DiceCrossEntropyLoss``; ``ce_weight`` is that of the focal part.

    Examples:
        >>> import torch
        >>> from medseg.losses import DiceCrossEntropyLoss, DiceFocalLoss
        >>> logits, target = torch.randn(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
        >>> torch.allclose(DiceFocalLoss(gamma=0.0)(logits, target), DiceCrossEntropyLoss()(logits, target))
        True
    """

    def __init__(self, gamma: float = 2.0, **others: Any) -> None:
        super().__init__(**others)
        self.gamma = gamma

    def of_head(self, voxels: Voxels) -> torch.Tensor:
        """Returns the loss of one head, a scalar."""
        probability, reference, known, entropy = voxels
        axes = (0, *range(2, reference.ndim))
        overlap = (probability * reference).sum(axes)
        sizes = (probability * known).sum(axes) + reference.sum(axes)
        dice = (1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)).mean()
        focal = (-torch.expm1(-entropy)).clamp(min=0) ** self.gamma * entropy  # expm1: 1 - p, exact where p is near 1
        return self.dice_weight * dice + self.ce_weight * focal.sum() / known.sum().clamp(min=1)
