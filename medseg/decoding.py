"""What logits say: labels, probabilities, and how sure the network is.

The one place where it matters for that whether outputs are labels, of which each voxel has one (softmax), or regions,
which may overlap (a sigmoid each).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import TypeVar

import torch
from torch.nn.functional import logsigmoid

from medseg.errors import lacks_gpu_memory
from medseg.plan import LearntRegion, Plan

Result = TypeVar("Result")

# By how much a logit speaks for what is certain: probabilities below 5e-5 of the others.
CERTAIN = 10.0

# Where probabilities become logits again: below it float32 has no more of them.
LEAST_PROBABILITY = 1e-7


class Decoding(ABC):
    """What the outputs of a network stand for.

    Labels are such that, where all corners of a cell have one label, linear interpolation of the logits between them
    has it too: ``transforms.restoring`` relies on it.
    """

    @abstractmethod
    def labels(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns the label of each voxel.

        Args:
            logits: One output a channel, along ``axis``; other axes are kept.
            axis: The axis of the outputs.

        Returns:
            Network values, uint8, without the axis.
        """

    def interpolated(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns what is interpolated on the way to the source grid, of which ``labels`` gives the same labels.

        Args:
            logits: ``(…, output)``.
        """
        return logits

    def logits(self, interpolated: torch.Tensor) -> torch.Tensor:
        """Returns the logits of what was interpolated, ``(…, output)``."""
        return interpolated

    @abstractmethod
    def n_values(self, n_outputs: int) -> int:
        """Returns how many values a label map may have, 0 among them.

        Args:
            n_outputs: Of the network.
        """

    @abstractmethod
    def activated(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the probability of each output.

        Args:
            logits: ``(output, x, y, z)``.

        Returns:
            The same shape, from 0 to 1.
        """

    @abstractmethod
    def labels_of_activated(self, probabilities: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns the label of each voxel, as ``labels`` does, of probabilities of the outputs."""

    @abstractmethod
    def probabilities(self, logits: torch.Tensor, unions: Mapping[str, Sequence[int]]) -> torch.Tensor:
        """Returns the probability of each structure.

        Args:
            logits: ``(output, x, y, z)``.
            unions: The network values of each structure, by its name: ``Labels.unions``.

        Returns:
            ``(structure, x, y, z)``, from 0 to 1, in the order of ``unions``.
        """

    @abstractmethod
    def entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns how unsure the network is, from 0, sure, to 1, as unsure as can be.

        Args:
            logits: ``(output, x, y, z)``.

        Returns:
            ``(1, x, y, z)``.
        """

    @abstractmethod
    def nothing(self, n_outputs: int) -> torch.Tensor:
        """Returns the logits of a voxel that surely belongs to no structure, ``(output,)``.

        Args:
            n_outputs: Of the network.
        """


class Softmax(Decoding):
    """Decodes the background and the labels, of which each voxel has exactly one: the largest."""

    def labels(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns the output with the largest logit of each voxel, as ``Decoding.labels`` says."""
        return logits.argmax(axis).to(torch.uint8)

    def n_values(self, n_outputs: int) -> int:
        """Returns the number of outputs, one of which is the background."""
        return n_outputs

    def activated(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the softmax over the outputs."""
        return logits.softmax(0)

    def labels_of_activated(self, probabilities: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns the most probable output of each voxel."""
        return self.labels(probabilities, axis)

    def probabilities(self, logits: torch.Tensor, unions: Mapping[str, Sequence[int]]) -> torch.Tensor:
        """Returns the softmax of each label, and of a region the sum over its labels."""
        shares = logits.softmax(0)
        return torch.stack([shares[list(values)].sum(0) for values in unions.values()])

    def entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the entropy of the distribution over the background and the labels, as ``Decoding.entropy`` says."""
        logarithms = logits.log_softmax(0)
        return -(logarithms.exp() * logarithms).sum(0, keepdim=True) / log(len(logits))

    def nothing(self, n_outputs: int) -> torch.Tensor:
        """Returns 0 for the background, and -10 (``CERTAIN``) for each label."""
        return torch.tensor([0.0] + [-CERTAIN] * (n_outputs - 1))


@dataclass(frozen=True)
class Sigmoids(Decoding):
    """Decodes regions, which hold the voxels where their sigmoid is above .5, their logit above 0.

    In their order, each writes its value over what was written before, as nnU-Net does (Isensee et al. 2021).

    Attributes:
        regions: One for each output.
    """

    regions: tuple[LearntRegion, ...]

    def labels(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns the value of the last region that holds each voxel, as ``Decoding.labels`` says."""
        written = torch.zeros_like(logits.select(axis, 0), dtype=torch.uint8)
        for region, own in zip(self.regions, logits.unbind(axis), strict=True):
            written.masked_fill_(own > 0, region.value)
        return written

    def n_values(self, n_outputs: int) -> int:
        """Returns how many values the labels of the regions need, 0 among them."""
        return 1 + max(value for region in self.regions for value in region.values)

    def activated(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the sigmoid of each output."""
        return logits.sigmoid()

    def labels_of_activated(self, probabilities: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns the value of the last region whose probability is above .5, of each voxel."""
        return self.labels(probabilities - 0.5, axis)

    def probabilities(self, logits: torch.Tensor, unions: Mapping[str, Sequence[int]]) -> torch.Tensor:
        """Returns the sigmoid of each structure, all of which are learnt."""
        place = {region.name: i for i, region in enumerate(self.regions)}
        return logits[[place[name] for name in unions]].sigmoid()

    def entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the mean of the entropies of the regions, each of two outcomes."""
        inside, outside = logsigmoid(logits), logsigmoid(-logits)
        return -(inside.exp() * inside + outside.exp() * outside).mean(0, keepdim=True) / log(2)

    def nothing(self, n_outputs: int) -> torch.Tensor:
        """Returns -10 (``CERTAIN``) for each region."""
        return torch.full((n_outputs,), -CERTAIN)


class SoftmaxOfVoxels(Softmax):
    """Decodes as ``Softmax``, but probabilities are interpolated on the way to the source grid, as MONAI does."""

    def interpolated(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the probability of each output."""
        return logits.float().softmax(-1)

    def logits(self, interpolated: torch.Tensor) -> torch.Tensor:
        """Returns the logarithms of the probabilities, whose softmax they are."""
        return interpolated.clamp_min(LEAST_PROBABILITY).log()


class SigmoidsOfVoxels(Sigmoids):
    """Decodes as ``Sigmoids``, but probabilities are interpolated on the way to the source grid, as MONAI does."""

    def interpolated(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns by how much each probability is above a half, where a region begins."""
        return logits.float().sigmoid() - 0.5

    def logits(self, interpolated: torch.Tensor) -> torch.Tensor:
        """Returns the logits of the probabilities."""
        return (interpolated + 0.5).logit(LEAST_PROBABILITY)


@dataclass(frozen=True)
class FirstOutputs(Decoding):
    """Decodes what the first outputs say, as another decoding does, where others of another kind follow on them.

    Attributes:
        decoding: Of the first outputs.
        others: How many follow.
    """

    decoding: Decoding
    others: int

    def _first(self, logits: torch.Tensor, axis: int = 0) -> torch.Tensor:
        return logits.narrow(axis, 0, logits.shape[axis] - self.others)

    def depth(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the mean of the sigmoids of the other outputs: how deep each voxel lies in its object.

        Args:
            logits: ``(output, …)``.

        Returns:
            ``(…)``, float32, 0 … 1.
        """
        return logits[len(logits) - self.others :].float().sigmoid().mean(0)

    def labels(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns the label of each voxel, as ``Decoding.labels`` says."""
        return self.decoding.labels(self._first(logits, axis), axis)

    def n_values(self, n_outputs: int) -> int:
        """Returns how many values a label map may have, 0 among them."""
        return self.decoding.n_values(n_outputs - self.others)

    def activated(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the probability of each of the first outputs."""
        return self.decoding.activated(self._first(logits))

    def labels_of_activated(self, probabilities: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns the label of each voxel of probabilities of the first outputs."""
        return self.decoding.labels_of_activated(probabilities, axis)

    def probabilities(self, logits: torch.Tensor, unions: Mapping[str, Sequence[int]]) -> torch.Tensor:
        """Returns the probability of each structure."""
        return self.decoding.probabilities(self._first(logits), unions)

    def entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns how unsure the network is of the first outputs."""
        return self.decoding.entropy(self._first(logits))

    def nothing(self, n_outputs: int) -> torch.Tensor:
        """Returns the logits of a voxel that surely belongs to no structure: -10 for each of the other outputs."""
        first = self.decoding.nothing(n_outputs - self.others)
        return torch.cat([first, torch.full((self.others,), -CERTAIN)])


SOFTMAX = Softmax()


def decoding_of(plan: Plan) -> Decoding:
    """Returns what the outputs of a plan's network stand for: regions where the plan has some, else labels."""
    if plan.grid.resampling.restored == "probabilities":
        return SigmoidsOfVoxels(plan.regions) if plan.regions else SoftmaxOfVoxels()
    decoding = Sigmoids(plan.regions) if plan.regions else SOFTMAX
    return decoding if plan.objects is None else FirstOutputs(decoding, len(plan.objects.targets))


def or_on_processor(function: Callable[[torch.Tensor], Result], logits: torch.Tensor) -> Result:
    """Returns what a function makes of logits; where the GPU has too little memory for it, of a copy in main memory.

    Args:
        function: Of the logits.
        logits: On any device.

    Raises:
        RuntimeError: Whatever the function raises but for a lack of the GPU's memory.
    """
    try:
        return function(logits)
    except RuntimeError as error:
        if not lacks_gpu_memory(error):
            raise
    return function(logits.cpu())
