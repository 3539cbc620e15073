"""Dice and cross-entropy over what was annotated: some voxels may be ignored, and some labels of a sample unknown."""

import torch
from torch import nn
from torch.nn import functional

from medseg.labels import IGNORED

# As nnU-Net: enough to keep a label that is absent from the batch from dividing zero by zero.
SMOOTH = 1e-5


class DiceCE(nn.Module):
    """Of logits (batch, label, *spatial) against a label map (batch, 1, *spatial) of network values.

    Voxels that are ``IGNORED`` count nothing, as if they were cut away. Cross-entropy is the mean over the other
    voxels; Dice is taken over the whole batch and the labels without the background, which is steadier for structures
    that many patches don't hold.
    """

    def __init__(self, dice_weight: float, ce_weight: float) -> None:
        super().__init__()
        self.dice_weight, self.ce_weight = dice_weight, ce_weight

    def forward(self, logits: torch.Tensor, label: torch.Tensor, annotated: torch.Tensor | None = None) -> torch.Tensor:
        """``annotated`` (batch, label), booleans: which labels were drawn where they are; None: all. A label that was
        not is merged with the background of its sample: see ``merged``."""
        if annotated is not None:
            logits = merged(logits, annotated)
        known = label != IGNORED
        return self.dice_weight * self._dice(logits, label, known) + self.ce_weight * self._ce(logits, label, known)

    def _ce(self, logits: torch.Tensor, label: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        total = functional.cross_entropy(logits, label[:, 0].long(), ignore_index=IGNORED, reduction="sum")
        return total / known.sum().clamp(min=1)

    def _dice(self, logits: torch.Tensor, label: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        probabilities = logits.softmax(1)[:, 1:]
        index = label.long().masked_fill(~known, 0)
        true = torch.zeros_like(logits).scatter_(1, index, known.to(logits.dtype))[:, 1:]
        voxels = [0, *range(2, logits.ndim)]
        both = (probabilities * true).sum(voxels)
        either = (probabilities * known).sum(voxels) + true.sum(voxels)
        return 1 - ((2 * both + SMOOTH) / (either + SMOOTH)).mean()


def merged(logits: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Logits whose background also stands for the labels that were not ``annotated`` (batch, label) in a sample: its
    probability is the sum of theirs, and theirs are 0 (marginal loss: Shi et al. 2021, Medical Image Analysis 70)."""
    hidden = ~annotated.view(*annotated.shape, *[1] * (logits.ndim - 2))
    others = ~hidden
    others[:, 0] = False  # what is not part of the merged background
    background = logits.masked_fill(others, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, logits.masked_fill(hidden, -torch.inf)[:, 1:]], dim=1)
