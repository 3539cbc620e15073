"""What the loss is made of: sums over the voxels of a batch, ``(2 * n + 2,)`` for ``n`` labels or regions.

For each of them its probability on its own voxels, then its probability everywhere and its voxels together; the
cross-entropy; the number of values that this is the sum over. Voxels that are ``IGNORED`` count nothing.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from medseg.labels import IGNORED
from medseg.plan import LearntRegion


class LabelSums(nn.Module):
    """Of logits (batch, label, *spatial), of which one label is true at each voxel, against a label map
    (batch, 1, *spatial) in network values; without the background."""

    def forward(self, logits: torch.Tensor, label: torch.Tensor, annotated: torch.Tensor | None = None) -> torch.Tensor:
        """``annotated`` (batch, network value): which labels were drawn; None: all. One that was not is merged with
        the background of its sample: see ``merged``."""
        if annotated is not None:
            logits = merged(logits, annotated)
        labels = torch.arange(1, logits.shape[1], device=label.device).view(1, -1, *[1] * (label.ndim - 2))
        reference = (label == labels).float()  # to multiply by truth values takes longer
        entropy = functional.cross_entropy(logits, label[:, 0].long(), ignore_index=IGNORED, reduction="sum")
        known = (label != IGNORED).float()
        return _sums(logits.softmax(1)[:, 1:], reference, known, entropy)


class RegionSums(nn.Module):
    """Of logits (batch, region, *spatial), each true or not, since regions overlap: binary cross-entropy, as nnU-Net
    trains regions (Isensee et al. 2021)."""

    def __init__(self, regions: Sequence[LearntRegion]) -> None:
        super().__init__()
        self.holds = torch.zeros(len(regions), 256, dtype=torch.bool)  # whether a region holds a network value
        for own, region in zip(self.holds, regions, strict=True):
            own[list(region.values)] = True

    def forward(self, logits: torch.Tensor, label: torch.Tensor, annotated: torch.Tensor | None = None) -> torch.Tensor:
        """``annotated`` (batch, network value): which labels were drawn; None: all. A region counts nothing in samples
        in which one of its labels was not."""
        reference = self.masks(label).to(logits)
        known = (label != IGNORED).to(logits).expand_as(logits)
        if annotated is not None:
            known = known * self.drawn(annotated).view(*logits.shape[:2], *[1] * (logits.ndim - 2)).to(logits)
        entropy = functional.binary_cross_entropy_with_logits(logits, reference, weight=known, reduction="sum")
        return _sums(logits.sigmoid(), reference * known, known, entropy)

    def masks(self, label: torch.Tensor) -> torch.Tensor:
        """Where each region is: (batch, region, *spatial), bool."""
        return self.holds.to(label.device)[:, label[:, 0].long()].transpose(0, 1)

    def drawn(self, annotated: torch.Tensor) -> torch.Tensor:
        """Whether all labels of a region were: (batch, region)."""
        holds = self.holds[:, : annotated.shape[1]].to(annotated.device)
        return (annotated[:, None] | ~holds).all(-1)


def merged(logits: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Logits whose background also stands for the labels that were not ``annotated`` (batch, label) in a sample: its
    probability is the sum of theirs, and theirs are 0 (marginal loss: Shi et al. 2021, Medical Image Analysis 70)."""
    hidden = ~annotated.view(*annotated.shape, *[1] * (logits.ndim - 2))
    others = ~hidden
    others[:, 0] = False  # what is not part of the merged background
    background = logits.masked_fill(others, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, logits.masked_fill(hidden, -torch.inf)[:, 1:]], dim=1)


def _sums(
    probabilities: torch.Tensor, reference: torch.Tensor, known: torch.Tensor, entropy: torch.Tensor
) -> torch.Tensor:
    axes = (0, *range(2, reference.ndim))
    overlap = (probabilities * reference).sum(axes)
    sizes = (probabilities * known).sum(axes) + reference.sum(axes)
    return torch.cat([overlap, sizes, torch.stack([entropy, known.sum()])])
