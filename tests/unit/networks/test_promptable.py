"""A network that takes prompts, and works without them."""

import pytest
import torch

from medseg.architecture import PROMPT_CHANNELS, Architecture, PromptChannels
from medseg.errors import ConfigError
from medseg.networks.registry import build_network

PROMPTS = PromptChannels(point_radius_mm=3, scribble_radius_mm=1)


def architecture(name: str = "unet", prompts: PromptChannels | None = PROMPTS) -> Architecture:
    return Architecture(
        name=name, features=(4, 8), strides=((1, 1), (2, 2)), kernel_sizes=((3, 3),) * 2, prompts=prompts
    )


def test_without_prompts_it_says_what_it_says_to_prompts_of_nothing() -> None:
    network = build_network(2, 3, architecture()).eval()
    image = torch.randn(1, 2, 17, 16)
    prompted = network(torch.cat([image, torch.zeros(1, len(PROMPT_CHANNELS), 17, 16)], 1))
    assert prompted.shape == (1, 4, 17, 16)
    assert torch.equal(network(image), prompted[:, :3])


def test_the_heads_of_deep_supervision_have_no_object_without_prompts() -> None:
    heads = build_network(1, 3, architecture())(torch.randn(2, 1, 32, 32))
    assert [head.shape[1] for head in heads] == [3] * len(heads)


def test_its_weights_have_the_names_of_those_of_a_network_without_prompts() -> None:
    assert build_network(1, 2, architecture()).state_dict().keys() == (
        build_network(1, 2, architecture(prompts=None)).state_dict().keys()
    )


def test_networks_with_a_margin_are_refused() -> None:
    with pytest.raises(ConfigError, match="takes no prompts"):
        build_network(1, 2, architecture("unet-2015"))
