"""What the loss is made of: sums over the voxels of a batch.

They are ``(2 * n + 2,)`` for ``n`` labels or regions: for each of them its probability on its own voxels, then its
probability everywhere and its voxels together; then the cross-entropy, and the number of values that this is the sum
over. Voxels of value 255 (``medseg.labels.IGNORED``) count nothing. Sums of several processes can be added.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from medseg.labels import IGNORED


class Voxels(NamedTuple):
    """What is known of each voxel of a batch, before it is summed.

    Structures are labels without the background, or regions. Ignored voxels are in no mask of ``reference``, and 0 in
    ``known``.

    Attributes:
        probability: ``(batch, structure, *spatial)``.
        reference: Where each structure is, of the same shape, 0 or 1.
        known: Which voxels count: of the same shape, or one channel for all structures; 0 or 1.
        entropy: The cross-entropy of each voxel that counts, of the shape of ``known``; 0 of all others.

    Examples:
        >>> import torch
        >>> from medseg.losses import LabelSums, Voxels
        >>> voxels: Voxels = LabelSums().voxels(torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8))
        >>> voxels.probability.shape, voxels.known.shape
        (torch.Size([1, 2, 8, 8]), torch.Size([1, 1, 8, 8]))
    """

    probability: torch.Tensor
    reference: torch.Tensor
    known: torch.Tensor
    entropy: torch.Tensor


class LabelSums(nn.Module):
    """Sums over the voxels of labels, of which one is true at each voxel: softmax; without the background.

    Examples:
        >>> import torch
        >>> from medseg.losses import LabelSums
        >>> logits = torch.tensor([[[0.0, 0.0], [99.0, -99.0]]])  # (batch, label, voxel): label 1, and the background
        >>> overlap, sizes, entropy, voxels = LabelSums()(logits, torch.tensor([[[1, 1]]])).tolist()
        >>> overlap, sizes, entropy, voxels
        (1.0, 3.0, 99.0, 2.0)
    """

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the sums, ``(2 * labels + 2,)``, where the background is not one of the labels.

        Args:
            logits: ``(batch, label, *spatial)``, the background first.
            target: ``(batch, 1, *spatial)``: network values.
            annotated: ``(batch, label)``: which labels were drawn. None: all. One that was not is merged with the
                background of its sample: see ``merged``.

        Raises:
            ValueError: Logits have one channel, or the target a value that none of their channels stands for.
        """
        return _sums(self.voxels(logits, target, annotated, reduction="sum"))

    def voxels(
        self,
        logits: torch.Tensor,
        target: torch.Tensor,
        annotated: torch.Tensor | None = None,
        *,
        reduction: str = "none",
    ) -> Voxels:
        """Returns what is summed, of each voxel; arguments and errors are those of ``forward``.

        Args:
            logits: ``(batch, label, *spatial)``, the background first.
            target: ``(batch, 1, *spatial)``: network values.
            annotated: ``(batch, label)``: which labels were drawn. None: all.
            reduction: "sum" for the sum of the cross-entropy in place of that of each voxel, which takes less memory.
        """
        if logits.shape[1] < 2:
            raise ValueError(
                f"logits {tuple(logits.shape)}: a softmax needs two channels, the background first; for a sigmoid of "
                "one structure give regions=[[1]]"
            )
        if annotated is not None:
            logits = merged(logits, annotated)
        labels = torch.arange(1, logits.shape[1], device=target.device).view(1, -1, *[1] * (target.ndim - 2))
        reference = (target == labels).float()  # to multiply by truth values takes longer
        try:
            entropy = functional.cross_entropy(logits, target[:, 0].long(), ignore_index=IGNORED, reduction=reduction)
        except IndexError as error:  # on a processor; a GPU says it in its own way, later
            raise ValueError(f"target: {error} It holds 0 to {logits.shape[1] - 1}, or {IGNORED}") from error
        known = (target != IGNORED).float()
        return Voxels(logits.softmax(1)[:, 1:], reference, known, entropy[:, None] if entropy.ndim else entropy)


class RegionSums(nn.Module):
    """The sums of regions, each true or not at a voxel, since they overlap: sigmoids and binary cross-entropy.

    Source: Isensee et al. 2021, doi:10.1007/978-3-030-72087-2_11 (nnU-Net for brain tumours).

    Args:
        regions: The network values of the labels that each region holds.

    Examples:
        >>> import torch
        >>> from medseg.losses import RegionSums
        >>> sums = RegionSums(regions=[[1, 2], [2]])  # a tumour, and its core
        >>> sums.masks(torch.tensor([[[0, 1, 2]]])).int().tolist()  # (batch, region, voxel)
        [[[0, 1, 1], [0, 0, 1]]]
        >>> sums(torch.zeros(1, 2, 3), torch.tensor([[[0, 1, 2]]])).shape
        torch.Size([6])
    """

    def __init__(self, regions: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.holds = torch.zeros(len(regions), 256, dtype=torch.bool)  # whether a region holds a network value
        for own, values in zip(self.holds, regions, strict=True):
            own[list(values)] = True

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the sums, ``(2 * regions + 2,)``.

        Args:
            logits: ``(batch, region, *spatial)``.
            target: ``(batch, 1, *spatial)``: network values of labels.
            annotated: ``(batch, label)``: which labels were drawn. None: all. A region counts nothing in samples in
                which one of its labels was not.

        Raises:
            ValueError: There are more or fewer channels of logits than regions.
        """
        return _sums(self.voxels(logits, target, annotated, reduction="sum"))

    def voxels(
        self,
        logits: torch.Tensor,
        target: torch.Tensor,
        annotated: torch.Tensor | None = None,
        *,
        reduction: str = "none",
    ) -> Voxels:
        """Returns what is summed, of each voxel; arguments and errors are those of ``forward``.

        Args:
            logits: ``(batch, region, *spatial)``.
            target: ``(batch, 1, *spatial)``: network values of labels.
            annotated: ``(batch, label)``: which labels were drawn. None: all.
            reduction: "sum" for the sum of the cross-entropy in place of that of each voxel, which takes less memory.
        """
        if logits.shape[1] != len(self.holds):
            raise ValueError(f"logits {tuple(logits.shape)}: {len(self.holds)} regions need as many channels")
        reference = self.masks(target).to(logits)
        known = (target != IGNORED).to(logits).expand_as(logits)
        if annotated is not None:
            known = known * self.drawn(annotated).view(*logits.shape[:2], *[1] * (logits.ndim - 2)).to(logits)
        entropy = functional.binary_cross_entropy_with_logits(logits, reference, weight=known, reduction=reduction)
        return Voxels(logits.sigmoid(), reference * known, known, entropy)

    def masks(self, target: torch.Tensor) -> torch.Tensor:
        """Returns where each region is: ``(batch, region, *spatial)``, bool.

        Args:
            target: Network values, ``(batch, 1, *spatial)``.
        """
        return self.holds.to(target.device)[:, target[:, 0].long()].transpose(0, 1)

    def drawn(self, annotated: torch.Tensor) -> torch.Tensor:
        """Returns whether all labels of a region were drawn: ``(batch, region)``, bool.

        Args:
            annotated: Whether each label was drawn, ``(batch, label)``, bool.
        """
        holds = self.holds[:, : annotated.shape[1]].to(annotated.device)
        return (annotated[:, None] | ~holds).all(-1)


def merged(logits: torch.Tensor, annotated: torch.Tensor, hidden_logit: float = -torch.inf) -> torch.Tensor:
    """Returns logits whose background also stands for the labels that were not annotated in a sample.

    Its probability is the sum of theirs, and theirs are 0.

    Source: marginal loss, Shi et al. 2021, Medical Image Analysis 70, doi:10.1016/j.media.2021.101979.

    Args:
        logits: ``(batch, label, *spatial)``, the background first.
        annotated: ``(batch, label)``, bool.
        hidden_logit: What the logits of labels become that were not annotated.

    Examples:
        >>> import torch
        >>> from medseg.losses import merged
        >>> logits = torch.zeros(1, 4, 1)  # (batch, label, voxel): the background and three labels, as likely as it
        >>> annotated = torch.tensor([[True, True, False, False]])
        >>> merged(logits, annotated).softmax(1).flatten()
        tensor([0.7500, 0.2500, 0.0000, 0.0000])
    """
    hidden = ~annotated.view(*annotated.shape, *[1] * (logits.ndim - 2))
    others = ~hidden
    others[:, 0] = False  # what is not part of the merged background
    background = logits.masked_fill(others, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, logits.masked_fill(hidden, hidden_logit)[:, 1:]], dim=1)


def _sums(voxels: Voxels) -> torch.Tensor:
    probability, reference, known, entropy = voxels
    axes = (0, *range(2, reference.ndim))
    overlap = (probability * reference).sum(axes)
    sizes = (probability * known).sum(axes) + reference.sum(axes)
    return torch.cat([overlap, sizes, torch.stack([entropy, known.sum()])])
