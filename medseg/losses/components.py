"""Losses in which each connected component of a structure counts alike, however small it is."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from medseg.losses.dice_cross_entropy import SMOOTH, DiceCrossEntropyLoss
from medseg.losses.voxel_sums import Voxels
from medseg.volume import Array


@dataclass(frozen=True)
class Parts:
    """Which part of a batch each voxel belongs to. Parts 0, 1, … are what of each sample and structure belongs to no
    component, sample by sample; the components follow.

    Attributes:
        index: The part of each voxel of ``(batch, structure, *spatial)``, flat.
        owner: Of each component, the sample and the structure that it is of: ``sample * structures + structure``.
        owners: How many samples and structures there are.
    """

    index: torch.Tensor
    owner: torch.Tensor
    owners: int

    def sums(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the sums of values over what belongs to no component, and over each component.

        Args:
            values: ``(batch, structure, *spatial)``.
        """
        zeros = values.new_zeros(self.owners + len(self.owner))
        total = zeros.index_add(0, self.index, values.flatten())
        return total[: self.owners], total[self.owners :]


class ComponentsLoss(DiceCrossEntropyLoss):
    """Dice and cross-entropy of the batch, and of each component by itself: the base of such losses.

    Components have neighbours at faces, edges and corners (26; 8 in 2D). They are those of the patch: what the border
    of the patch cuts in two counts twice. The mean over the components of a structure counts as much as that of any
    other structure that has some in the batch. Components are looked for at full resolution only: the coarser heads of
    deep supervision have Dice and cross-entropy alone. They are found by the processor, from the target of each step.
    Of several processes, each takes the components of its own samples.

    Args:
        component_weight: Weight of the mean over the components, beside Dice and cross-entropy of the batch.
        **others: Those of ``DiceCrossEntropyLoss``.
    """

    nearest = False  # whether voxels that are in no component belong to the nearest one

    def __init__(self, component_weight: float = 1.0, **others: Any) -> None:
        super().__init__(**others)
        self.component_weight = component_weight

    def losses(
        self, heads: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], annotated: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns the loss of each head, ``(head,)``."""
        each = super().losses(heads, targets, annotated)
        voxels = self.sums.voxels(heads[0], targets[0], annotated)
        parts = parts_of(voxels.reference, self.nearest)
        if not len(parts.owner):
            return each
        own = self.of_components(voxels, parts)
        structures = voxels.reference.shape[1]
        counts = torch.bincount(parts.owner % structures, minlength=structures)
        weights = 1 / counts[parts.owner % structures].float()
        return torch.cat([each[:1] + self.component_weight * (own * weights).sum() / (counts > 0).sum(), each[1:]])

    @abstractmethod
    def of_components(self, voxels: Voxels, parts: Parts) -> torch.Tensor:
        """Returns the loss of each component, ``(component,)``."""

    def dice_and_entropy(
        self, overlap: torch.Tensor, sizes: torch.Tensor, entropy: torch.Tensor, n_voxels: torch.Tensor
    ) -> torch.Tensor:
        """Returns the weighed sum of Dice loss and cross-entropy of each component.

        Args:
            overlap: The probability on the voxels of the component, summed, ``(component,)``.
            sizes: The probability on all its voxels that count, and the voxels of the component.
            entropy: The cross-entropy, summed over them.
            n_voxels: How many voxels count.
        """
        dice = 1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)
        return self.dice_weight * dice + self.ce_weight * entropy / n_voxels.clamp(min=1)


class ConnectedComponentsLoss(ComponentsLoss):
    """CC-DiceCE: Dice and cross-entropy of the batch, and of the surroundings of each component.

    The surroundings are all voxels that are nearer to it than to any other component of the structure, in voxels, as
    in CC-Metrics. So a missed lesion of ten voxels costs as much as one of ten thousand. Recall rises, and false
    alarms with it, somewhat.

    Source: Bouteille et al. 2025, Learning to look closer: a new instance-wise loss for small cerebral lesion
    segmentation, arXiv:2511.17146; Jaus et al. 2025, Every component counts (CC-Metrics), AAAI, arXiv:2410.18684.

    Args:
        component_weight: Weight of the mean over the components, beside Dice and cross-entropy of the batch.
        **others: Those of ``DiceCrossEntropyLoss``.

    Examples:
        >>> import torch
        >>> from medseg.losses import ConnectedComponentsLoss, DiceCrossEntropyLoss
        >>> target = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
        >>> target[..., 2:22, 2:22] = target[..., 28:30, 28:30] = 1  # a large lesion, and a small one
        >>> logits = torch.stack([target[:, 0] == 0, target[:, 0] == 1], 1) * 20.0
        >>> logits[:, 0, 26:, 26:], logits[:, 1, 26:, 26:] = 20.0, 0.0  # the small one is missed
        >>> round(DiceCrossEntropyLoss(ce_weight=0)(logits, target).item(), 2)
        0.0
        >>> round(ConnectedComponentsLoss(ce_weight=0)(logits, target).item(), 2)
        0.5
    """

    nearest = True

    def of_components(self, voxels: Voxels, parts: Parts) -> torch.Tensor:
        """Returns the loss of the surroundings of each component, ``(component,)``."""
        shape = voxels.reference.shape
        _, overlap = parts.sums(voxels.probability * voxels.reference)
        _, sizes = parts.sums(voxels.probability * voxels.known + voxels.reference)
        _, entropy = parts.sums(voxels.entropy.expand(shape))
        _, n_voxels = parts.sums(voxels.known.expand(shape))
        return self.dice_and_entropy(overlap, sizes, entropy, n_voxels)


class BlobLoss(ComponentsLoss):
    """Blob loss: Dice and cross-entropy of the batch, and of each component as if there were no other.

    For each component, all other components of the structure in its sample count nothing; the background counts for
    each. So false alarms cost in the loss of each component, and recall rises less than by CC-DiceCE.

    Source: Kofler et al. 2023, blob loss: instance imbalance aware loss functions for semantic segmentation, IPMI,
    arXiv:2205.08209, with its weights: 2 for the batch, 1 for the components.

    Args:
        component_weight: Weight of the mean over the components, beside Dice and cross-entropy of the batch.
        **others: Those of ``DiceCrossEntropyLoss``.

    Examples:
        >>> import torch
        >>> from medseg.losses import BlobLoss
        >>> logits = torch.zeros(1, 2, 16, 16, 16, requires_grad=True)
        >>> target = torch.zeros(1, 1, 16, 16, 16, dtype=torch.uint8)
        >>> target[..., 2:4, 2:4, 2:4] = target[..., 8:14, 8:14, 8:14] = 1
        >>> BlobLoss()(logits, target).backward()
    """

    def __init__(self, component_weight: float = 0.5, **others: Any) -> None:
        super().__init__(component_weight, **others)

    def of_components(self, voxels: Voxels, parts: Parts) -> torch.Tensor:
        """Returns the loss of each component and of the background around it, ``(component,)``."""
        shape = voxels.reference.shape
        outside, overlap = parts.sums(voxels.probability * voxels.known)
        _, size = parts.sums(voxels.reference)
        entropy_outside, entropy = parts.sums(voxels.entropy.expand(shape))
        n_outside, _ = parts.sums(voxels.known.expand(shape))
        return self.dice_and_entropy(
            overlap,
            overlap + outside[parts.owner] + size,
            entropy + entropy_outside[parts.owner],
            size + n_outside[parts.owner],
        )


def parts_of(reference: torch.Tensor, nearest: bool) -> Parts:
    """Returns the connected components of the masks of a batch.

    Args:
        reference: ``(batch, structure, *spatial)``, 0 or 1.
        nearest: Whether voxels that are in no component belong to the nearest one of their sample and structure.
    """
    masks = reference.detach().cpu().numpy().astype(bool)
    masks = masks.reshape(-1, *masks.shape[2:])
    index = np.empty(masks.shape, np.int64)
    owners: list[int] = []
    for owner, mask in enumerate(masks):
        components = _components(mask, nearest)
        index[owner] = np.where(components > 0, components + (len(masks) + len(owners) - 1), owner)
        owners += [owner] * int(components.max(initial=0))
    device = reference.device
    return Parts(torch.from_numpy(index).flatten().to(device), torch.tensor(owners, device=device), len(masks))


def _components(mask: Array, nearest: bool) -> Array:
    """Returns the component of each voxel, from 1; 0 is in none."""
    if not mask.any():
        return np.zeros(mask.shape, np.int64)
    components: Array = cc3d.connected_components(mask, connectivity=26 if mask.ndim == 3 else 8).astype(np.int64)
    if not nearest:
        return components
    if components.max() == 1:
        return np.ones_like(components)
    where = distance_transform_edt(components == 0, return_distances=False, return_indices=True)
    found: Array = components[tuple(where)]
    return found
