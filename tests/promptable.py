"""Models that answer to prompts by a rule that can be written down, so that tests know what they have to say."""

from collections.abc import Callable
from pathlib import Path

import torch
from model_records import record_of

from medseg.architecture import Architecture, PromptChannels
from medseg.device import choose_device
from medseg.inferers.model import Model
from medseg.networks.network import Network
from medseg.networks.promptable import Promptable
from medseg.plan import Grid, Normalization, Plan

PREVIOUS, INSIDE, OUTSIDE, BOX = 0, 1, 2, 3
RADIUS_MM = 3.0
SURE = 10.0  # what is said with less than a logit of .7 changes little of what was said before


class Rule(Network):
    """Its object is what a rule makes of image and prompt channels; its label is what is brighter than a half."""

    def __init__(self, rule: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], dims: int) -> None:
        super().__init__((1,) * dims)
        self.rule = rule
        self.seen: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(image)
        grey, prompts = image[:, :1], image[:, 1:]
        label = grey - 0.5
        return torch.cat([-label, label, SURE * self.rule(grey, prompts)], 1)


def bright(grey: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """Whatever is bright, but for what is near a point outside."""
    return grey - 0.5 - prompts[:, OUTSIDE : OUTSIDE + 1]


def channel(number: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """What one prompt channel shows, where that is more than nothing."""
    return lambda _grey, prompts: (prompts[:, number : number + 1] > 0.01).float() - 0.5


def model_of(
    rule: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = bright,
    patch: tuple[int, int, int] = (16, 16, 16),
    spacing: tuple[float, float, float] = (1, 1, 1),
    slice_axis: int | None = None,
    prompts: bool = True,
) -> Model:
    """A model with one label, for images that need no normalization."""
    dims = 3 if slice_axis is None else 2
    channels = PromptChannels(point_radius_mm=RADIUS_MM, scribble_radius_mm=0.5) if prompts else None
    architecture = Architecture(
        features=(4, 8),
        strides=((1,) * dims, (2,) * dims),
        kernel_sizes=((3,) * dims,) * 2,
        prompts=channels,
    )
    grid = Grid(orientation="RAS", spacing=spacing, crop_to_nonzero=False, normalization=(Normalization(kind="none"),))
    plan = Plan(
        dims=dims, grid=grid, patch_size=patch, batch_size=1, slice_axis=slice_axis, architecture=architecture
    )  # fmt: skip
    network = Promptable(Rule(rule, dims), 1)
    return Model(Path("run/model"), record_of(plan, {"bright": 1}), network.eval(), choose_device("cpu"))


def windows_seen(model: Model) -> list[torch.Tensor]:
    """What the network was asked about, ``(channel, *spatial)`` each."""
    rule: Rule = model.network.network  # type: ignore[assignment]
    return [each[0] for each in rule.seen]
