"""Losses for thin structures, such as vessels: what counts is whether they run through, not how thick they are."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import cc3d
import numpy as np
import torch
from monai.losses.cldice import soft_skel
from scipy.ndimage import binary_dilation, find_objects

from medseg.losses.dice_cross_entropy import SMOOTH, DiceCrossEntropyLoss
from medseg.losses.voxel_sums import Voxels
from medseg.volume import Array

TUBE_RADIUS = 2  # voxels by which a skeleton is thickened


class TubesLoss(DiceCrossEntropyLoss):
    """Dice and cross-entropy, and how well the middle of a structure is met: the base of such losses.

    The middle is looked at on full resolution only: the coarser heads of deep supervision have Dice and cross-entropy
    alone. Of several processes, each takes that of its own samples.

    Args:
        tube_weight: Weight of what this loss adds to Dice and cross-entropy.
        **others: Those of ``DiceCrossEntropyLoss``.
    """

    def __init__(self, tube_weight: float = 1.0, **others: Any) -> None:
        super().__init__(**others)
        self.tube_weight = tube_weight

    def losses(
        self, heads: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], annotated: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns the loss of each head, ``(head,)``."""
        each = super().losses(heads, targets, annotated)
        middle = self.of_structures(self.sums.voxels(heads[0], targets[0], annotated)).mean()
        return torch.cat([each[:1] + self.tube_weight * middle, each[1:]])

    @abstractmethod
    def of_structures(self, voxels: Voxels) -> torch.Tensor:
        """Returns what is added of each structure, ``(structure,)``."""


class SkeletonRecallLoss(TubesLoss):
    """Skeleton Recall: Dice and cross-entropy, and the part of the skeleton of the reference that is missed.

    The skeleton of each structure is thickened by two voxels inside of the structure; what counts is the probability on
    it, over the batch. The prediction needs no skeleton, so that little time and memory is taken. Skeletons are thinned
    by Lee et al. 1994 in 3D, by Zhang and Suen 1984 in 2D, by the processor, from the target of each step. Components
    of which nothing would be left count as a whole.

    Source: Kirchhoff et al. 2024, Skeleton Recall Loss, ECCV, arXiv:2404.03010.

    Args:
        tube_weight: Weight of the part that is missed, beside Dice and cross-entropy.
        **others: Those of ``DiceCrossEntropyLoss``.

    Examples:
        >>> import torch
        >>> from medseg.losses import SkeletonRecallLoss
        >>> target = torch.zeros(1, 1, 16, 16, 16, dtype=torch.uint8)
        >>> target[..., 7:10, 7:10, :] = 1  # a vessel
        >>> logits = torch.zeros(1, 2, 16, 16, 16, requires_grad=True)
        >>> round(SkeletonRecallLoss(dice_weight=0, ce_weight=0)(logits, target).item(), 3)
        0.5
    """

    def of_structures(self, voxels: Voxels) -> torch.Tensor:
        """Returns the part of each skeleton that is missed, ``(structure,)``."""
        masks = voxels.reference.detach().cpu().numpy().astype(bool)
        tubes = np.stack([[tubed_skeleton(mask) for mask in sample] for sample in masks])
        tube = torch.from_numpy(tubes).to(voxels.probability)
        axes = (0, *range(2, tube.ndim))
        return 1 - ((voxels.probability * tube).sum(axes) + SMOOTH) / (tube.sum(axes) + SMOOTH)


class CentrelineDiceLoss(TubesLoss):
    """clDice: Dice and cross-entropy, and one minus the soft centre-line Dice.

    Both prediction and reference are thinned softly, by erosion and dilation of their values, which takes several times
    as long as Dice, and memory. Each structure counts by itself over the batch, without the background.
    (``monai.losses.SoftclDiceLoss`` adds up all labels, and counts ignored voxels.)

    Source: Shit et al. 2021, clDice, a novel topology-preserving loss function for tubular structure segmentation,
    CVPR, arXiv:2003.07311.

    Args:
        tube_weight: Weight of clDice, beside Dice and cross-entropy.
        iterations: Erosions. At least the largest radius of a tube, in voxels.
        **others: Those of ``DiceCrossEntropyLoss``.

    Examples:
        >>> import torch
        >>> from medseg.losses import CentrelineDiceLoss
        >>> target = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
        >>> target[..., 14:17, :] = 1
        >>> logits = torch.stack([target[:, 0] == 0, target[:, 0] == 1], 1) * 20.0
        >>> round(CentrelineDiceLoss()(logits, target).item(), 3)
        0.0
    """

    def __init__(self, tube_weight: float = 1.0, iterations: int = 3, **others: Any) -> None:
        super().__init__(tube_weight, **others)
        self.iterations = iterations

    def of_structures(self, voxels: Voxels) -> torch.Tensor:
        """Returns one minus the soft centre-line Dice of each structure, ``(structure,)``."""
        predicted, reference = voxels.probability * voxels.known, voxels.reference
        lines, reference_lines = (soft_skel(masks, self.iterations) for masks in (predicted, reference))
        axes = (0, *range(2, reference.ndim))
        precision = ((lines * reference).sum(axes) + 1) / (lines.sum(axes) + 1)
        sensitivity = ((reference_lines * predicted).sum(axes) + 1) / (reference_lines.sum(axes) + 1)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity)


def tubed_skeleton(mask: Array) -> Array:
    """Returns the skeleton of a mask, thickened by ``TUBE_RADIUS`` voxels inside of the mask.

    Args:
        mask: ``(x, y, z)`` or ``(x, y)``, bool.

    Returns:
        Of the same shape, bool. Components that have no skeleton are there as a whole.

    Examples:
        >>> import numpy as np
        >>> vessel = np.zeros((9, 9), bool)
        >>> vessel[:, 1:8] = True
        >>> tubed_skeleton(vessel)[4].astype(int)
        array([0, 0, 1, 1, 1, 1, 1, 0, 0])
    """
    from skimage.morphology import skeletonize  # takes long to import

    tube = np.zeros(mask.shape, bool)
    if not mask.any():
        return tube
    box = find_objects(mask.astype(np.uint8))[0]  # what is thinned takes time by its volume
    inside = np.ascontiguousarray(mask[box])
    skeleton = skeletonize(np.pad(inside, 1))[(slice(1, -1),) * mask.ndim].astype(bool)
    thick = binary_dilation(skeleton, iterations=TUBE_RADIUS) & inside
    components = cc3d.connected_components(inside, connectivity=26 if mask.ndim == 3 else 8)
    without = np.ones(int(components.max()) + 1, bool)
    without[np.unique(components[skeleton])] = without[0] = False
    tube[box] = thick | without[components]
    return tube
