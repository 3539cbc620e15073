"""What logits say: labels, probabilities, and how sure the network is.

The one place where it matters for that whether outputs are labels, of which each voxel has one (softmax), or regions,
which may overlap (a sigmoid each).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch.nn.functional import logsigmoid

from medseg.plan import LearntRegion, Plan

# By how much a logit speaks for what is certain: probabilities below 5e-5 of the others.
CERTAIN = 10.0


class Decoding(ABC):
    """Logits have one output a channel, along ``axis``.

    Labels are such that, where all corners of a cell have one label, linear interpolation between them has it too:
    ``preprocessing.restoring`` relies on it.
    """

    @abstractmethod
    def labels(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        """Network values, uint8, without the axis."""

    @abstractmethod
    def n_values(self, n_outputs: int) -> int:
        """Of a label map, 0 among them."""

    @abstractmethod
    def probabilities(self, logits: torch.Tensor, unions: Mapping[str, Sequence[int]]) -> torch.Tensor:
        """Of each structure of ``Labels.unions``, (structure, x, y, z), from (output, x, y, z)."""

    @abstractmethod
    def entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """From 0, sure, to 1, as unsure as can be: (1, x, y, z) from (output, x, y, z)."""

    @abstractmethod
    def nothing(self, n_outputs: int) -> torch.Tensor:
        """Logits (output,) of a voxel that surely belongs to no structure."""


class Softmax(Decoding):
    """The background and the labels, of which each voxel has exactly one: the largest."""

    def labels(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        return logits.argmax(axis).to(torch.uint8)

    def n_values(self, n_outputs: int) -> int:
        return n_outputs

    def probabilities(self, logits: torch.Tensor, unions: Mapping[str, Sequence[int]]) -> torch.Tensor:
        """Of a region the sum over its labels."""
        shares = logits.softmax(0)
        return torch.stack([shares[list(values)].sum(0) for values in unions.values()])

    def entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """Of the distribution over the labels."""
        logarithms = logits.log_softmax(0)
        return -(logarithms.exp() * logarithms).sum(0, keepdim=True) / log(len(logits))

    def nothing(self, n_outputs: int) -> torch.Tensor:
        return torch.tensor([0.0] + [-CERTAIN] * (n_outputs - 1))


@dataclass(frozen=True)
class Sigmoids(Decoding):
    """Regions, which hold the voxels where their sigmoid is above .5, their logit above 0. In their order, each writes
    its value over what was written before, as nnU-Net does (Isensee et al. 2021)."""

    regions: tuple[LearntRegion, ...]

    def labels(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        written = torch.zeros_like(logits.select(axis, 0), dtype=torch.uint8)
        for region, own in zip(self.regions, logits.unbind(axis), strict=True):
            written.masked_fill_(own > 0, region.value)
        return written

    def n_values(self, n_outputs: int) -> int:
        return 1 + max(value for region in self.regions for value in region.values)

    def probabilities(self, logits: torch.Tensor, unions: Mapping[str, Sequence[int]]) -> torch.Tensor:
        """All structures are learnt."""
        place = {region.name: i for i, region in enumerate(self.regions)}
        return logits[[place[name] for name in unions]].sigmoid()

    def entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """The mean of those of the regions, each of two outcomes."""
        inside, outside = logsigmoid(logits), logsigmoid(-logits)
        return -(inside.exp() * inside + outside.exp() * outside).mean(0, keepdim=True) / log(2)

    def nothing(self, n_outputs: int) -> torch.Tensor:
        return torch.full((n_outputs,), -CERTAIN)


SOFTMAX = Softmax()


def decoding_of(plan: Plan) -> Decoding:
    return Sigmoids(plan.regions) if plan.regions else SOFTMAX
