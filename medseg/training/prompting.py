"""Prompts in training: a batch gets an object for each sample, what a simulated user says of it, and what the network
makes of that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from medseg.decoding import FirstOutputs, decoding_of
from medseg.device import Device
from medseg.interactive.encoding import encode
from medseg.interactive.prompts import Prompt
from medseg.interactive.simulated_user import SimulatedUser
from medseg.interactive.target_objects import TargetObject, TargetObjects, part_of
from medseg.labels import IGNORED
from medseg.plan import Plan
from medseg.volume import Geometry

# Of the samples, so that the network also segments without anybody's help.
UNPROMPTED = 0.3
# Of those at a structure: a user who corrects what the network said by itself.
CORRECTED_LABELS = 0.35
# Of the prompted ones: a part of the object is there, and no prompt. So look windows beside that of a click.
CONTINUED = 0.08
# Of the prompted ones: seen coarser by one of these factors, with nothing around. So sessions look wider.
WIDER, ZOOMS = 0.15, (1.5, 2.0)
# How often the network is asked before the step, and the user corrects what it said: 0, 1, 2, 3 or 4 times.
ROUNDS = (0.45, 0.22, 0.15, 0.1, 0.08)

Network = Callable[[torch.Tensor], torch.Tensor]
"""From images with all channels, ``(batch, channel, *spatial)``, to the logits of all outputs."""


@dataclass
class PromptedSample:
    """One sample, and what was said of its object so far.

    Attributes:
        user: Who says it.
        target: The object; None where nobody prompts.
        known: Where somebody annotated, bool ``(x, y, z)``.
        zoom: How much coarser its voxels are.
        from_labels: Whether the user begins with the network's own label map.
        prompts: From the oldest to the newest.
        mask: What the network said last, bool ``(x, y, z)``; None: nothing yet.
    """

    user: SimulatedUser
    target: TargetObject | None
    known: torch.Tensor
    zoom: float = 1.0
    from_labels: bool = False
    prompts: list[Prompt] = field(default_factory=list)
    mask: torch.Tensor | None = None

    def begin(self) -> None:
        """Adds the first prompt, but where the network speaks first, or a mask is there."""
        if self.target is not None and not self.from_labels and self.mask is None:
            self.prompts.append(self.user.first(self.target.mask))

    def correct(self, mask: torch.Tensor) -> None:
        """Takes what the network says, and adds a prompt where it is wrong.

        Args:
            mask: Bool ``(x, y, z)``.
        """
        if self.target is None:
            return
        self.mask = mask
        prompt = self.user.correction(self.target.mask, mask & self.known)
        if prompt is not None:
            self.prompts.append(prompt)

    def object_map(self) -> torch.Tensor:
        """Returns the target of the output "object", ``(x, y, z)`` uint8: 255 where it is not known."""
        if self.target is None:
            return torch.full(self.known.shape, IGNORED, dtype=torch.uint8, device=self.known.device)
        return self.target.mask.to(torch.uint8).masked_fill_(~self.known, IGNORED)


class Prompting:
    """Adds simulated prompts to batches.

    What is drawn is a function of the seed, the step and the sample. At a part of the steps the network is asked
    before, and the user corrects what it said, as in RITM (Sofiiuk et al. 2022, arXiv:2102.06583) and MONAI's DeepEdit.

    Args:
        plan: Of a network that takes prompts.
        network: What is asked while the user corrects, as ``answers_of`` makes it.

    Examples:
        >>> import torch
        >>> from medseg.architecture import PromptChannels
        >>> from medseg.dataset import PreparedDataset
        >>> plan = PreparedDataset("prepared").plans.plan_3d  # what medseg preprocess wrote
        >>> prompts = PromptChannels(point_radius_mm=3, scribble_radius_mm=1)
        >>> plan = plan.model_copy(
        ...     update={"architecture": plan.architecture.model_copy(update={"prompts": prompts})}
        ... )
        >>> image, label = torch.rand(2, 1, 16, 16, 16), torch.ones(2, 1, 16, 16, 16, dtype=torch.uint8)
        >>> image, label = Prompting(plan, lambda image: image[:, :4])(image, label, seed=(0, 7), first=0)
        >>> image.shape[1], label.shape[1]  # 1 + 7; label map and object
        (8, 2)
    """

    def __init__(self, plan: Plan, network: Network) -> None:
        if plan.prompts is None:
            raise ValueError("the network of this plan takes no prompts")
        self.channels, self.network = plan.prompts, network
        self.decoding = FirstOutputs(decoding_of(plan), 1)  # what is left out is the object
        self.objects = TargetObjects([region.values for region in plan.regions], self.channels.objects == "any")
        self.spacing = [plan.grid.spacing[axis] for axis in plan.spatial_axes]

    def __call__(
        self, image: torch.Tensor, label: torch.Tensor, seed: Sequence[int], first: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns images with channels of prompts, and label maps with the objects that these say.

        Args:
            image: ``(sample, channel, *spatial)``.
            label: ``(sample, 1, *spatial)``.
            seed: Of the run, and the step.
            first: Which sample of the whole batch the first one is.

        Returns:
            ``(sample, channel + 7, *spatial)`` and ``(sample, 2, *spatial)``.
        """
        image, label = image.clone(), label.clone()  # which samples are drawn into, and zoomed
        volumes, maps = _in_space(image), _in_space(label)[:, 0]
        rounds = int(np.random.default_rng([*seed, 3]).choice(len(ROUNDS), p=ROUNDS))
        samples = []
        for i, (volume, own) in enumerate(zip(volumes, maps, strict=True)):
            random = np.random.default_rng([*seed, 3, first + i])
            samples.append(self._sample(volume, own, random, rounds))
        asked = [i for i, sample in enumerate(samples) if sample.target is not None]
        for _ in range(rounds if asked else 0):
            seen = torch.cat([image[asked], self._channels([samples[i] for i in asked], image)], 1)
            for i, logits in zip(asked, _in_space(self.network(seen)), strict=True):
                samples[i].correct(self._mask(samples[i], logits))
        channels = self._channels(samples, image)
        objects = torch.stack([sample.object_map() for sample in samples]).view(label.shape)
        return torch.cat([image, channels], 1), torch.cat([label, objects.to(label.dtype)], 1)

    def _sample(
        self, image: torch.Tensor, label: torch.Tensor, random: np.random.Generator, rounds: int
    ) -> PromptedSample:
        """Returns a sample with its first prompt; image and label map, which are views, become what it sees."""
        prompted, zoom = random.random() >= UNPROMPTED, 1.0
        if prompted and random.random() < WIDER:
            zoom = float(random.choice(ZOOMS))
            image.copy_(seen_wider(image, zoom))
            label.copy_(seen_wider(label, zoom))
        known = label != IGNORED
        target = self.objects.drawn(image, label, random) if prompted else None
        if target is not None and target.image is not None:
            image.copy_(target.image)
            label.masked_fill_(target.mask, IGNORED)  # what was there is covered
            known = known | target.mask
        is_structure = target is not None and bool(target.values)
        from_labels = rounds > 0 and is_structure and bool(random.random() < CORRECTED_LABELS)
        sample = PromptedSample(SimulatedUser(random), target, known, zoom, from_labels)
        if target is not None and not from_labels and random.random() < CONTINUED:
            sample.mask = part_of(target.mask, random)
        sample.begin()
        return sample

    def _mask(self, sample: PromptedSample, logits: torch.Tensor) -> torch.Tensor:
        """Returns what the network says of an object: of its label, where nothing was said yet."""
        if sample.prompts or sample.mask is not None or sample.target is None:
            return logits[-1] > 0
        labels = self.decoding.labels(logits, 0)
        return torch.stack([labels == value for value in sample.target.values]).any(0)

    def _channels(self, samples: Sequence[PromptedSample], image: torch.Tensor) -> torch.Tensor:
        """Returns the channels of the prompts so far, ``(sample, channel, *spatial)``."""
        encoded = []
        for sample in samples:
            x, y, z = sample.known.shape
            spacing = [mm * sample.zoom for mm in self.spacing]
            grid = Geometry((x, y, z), np.diag([*spacing, 1.0, 1.0][:4]))
            mask = None if sample.mask is None else sample.mask.float()
            encoded.append(encode(sample.prompts, self.channels, grid, grid, mask, image.device))
        return torch.stack(encoded).view(len(samples), -1, *image.shape[2:]).to(image.dtype)


def seen_wider(patch: torch.Tensor, zoom: float) -> torch.Tensor:
    """Returns a patch as a wider and coarser window shows it, in which it lies in the middle of nothing.

    Args:
        patch: An image ``(channel, x, y, z)``, which gets the means of its voxels; or a label map ``(x, y, z)``, which
            gets the value of one of them. An axis of one voxel stays as it is.
        zoom: How much coarser.

    Examples:
        >>> import torch
        >>> seen_wider(torch.tensor([1.0, 3.0, 5.0, 7.0]).view(1, 4, 1, 1), 2).flatten().tolist()
        [0.0, 2.0, 6.0, 0.0]
        >>> seen_wider(torch.tensor([1, 1, 5, 5]).view(4, 1, 1), 2).flatten().tolist()
        [0, 1, 5, 0]
    """
    shape = patch.shape[-3:]
    x, y, z = (max(1, round(n / zoom)) for n in shape)
    if patch.ndim == 4:
        coarse = functional.adaptive_avg_pool3d(patch.float(), (x, y, z)).to(patch.dtype)
    else:
        i, j, k = (torch.arange(m) * n // m + n // m // 2 for n, m in zip(shape, (x, y, z), strict=True))
        coarse = patch[i[:, None, None], j[:, None], k]
    around = [((n - m) // 2, n - m - (n - m) // 2) for n, m in zip(shape, (x, y, z), strict=True)]
    return functional.pad(coarse, [n for pair in reversed(around) for n in pair])


def answers_of(network: nn.Module, device: Device) -> Network:
    """Returns a function of images that gives the logits of a network as it is now, in float32, without gradients."""

    def answers(image: torch.Tensor) -> torch.Tensor:
        network.eval()
        with torch.no_grad(), device.autocast():
            logits: torch.Tensor = network(image.contiguous(memory_format=device.memory_format(image.ndim - 2)))
        network.train()
        return logits.float()

    return answers


def _in_space(batch: torch.Tensor) -> torch.Tensor:
    """Returns a batch with three spatial axes, of which the last has one voxel where there were two."""
    return batch if batch.ndim == 5 else batch.unsqueeze(-1)
