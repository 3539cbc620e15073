"""What the loss is made of: sums over the voxels of a batch, ``(2 * n + 2,)`` for ``n`` labels or regions.

For each of them its probability on its own voxels, then its probability everywhere and its voxels together; the
cross-entropy; the number of values that this is the sum over.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from medseg.plan import LearntRegion


class LabelSums(nn.Module):
    """Of logits (batch, label, *spatial), of which one label is true at each voxel, against a label map
    (batch, 1, *spatial) in network values; without the background."""

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        labels = torch.arange(1, logits.shape[1], device=label.device).view(1, -1, *[1] * (label.ndim - 2))
        reference = (label == labels).float()  # to multiply by truth values takes longer
        entropy = functional.cross_entropy(logits, label[:, 0].long(), reduction="sum")
        return _sums(logits.softmax(1)[:, 1:], reference, entropy, label.numel())


class RegionSums(nn.Module):
    """Of logits (batch, region, *spatial), each true or not, since regions overlap: binary cross-entropy, as nnU-Net
    trains regions (Isensee et al. 2021)."""

    def __init__(self, regions: Sequence[LearntRegion]) -> None:
        super().__init__()
        self.holds = torch.zeros(len(regions), 256, dtype=torch.bool)  # whether a region holds a network value
        for own, region in zip(self.holds, regions, strict=True):
            own[list(region.values)] = True

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        reference = self.masks(label).to(logits)
        entropy = functional.binary_cross_entropy_with_logits(logits, reference, reduction="sum")
        return _sums(logits.sigmoid(), reference, entropy, logits.numel())

    def masks(self, label: torch.Tensor) -> torch.Tensor:
        """Where each region is: (batch, region, *spatial), bool."""
        return self.holds.to(label.device)[:, label[:, 0].long()].transpose(0, 1)


def _sums(probabilities: torch.Tensor, reference: torch.Tensor, entropy: torch.Tensor, count: float) -> torch.Tensor:
    axes = (0, *range(2, reference.ndim))
    overlap = (probabilities * reference).sum(axes)
    sizes = probabilities.sum(axes) + reference.sum(axes)
    return torch.cat([overlap, sizes, torch.stack([entropy, entropy.new_tensor(float(count))])])
