"""A network that segments by itself, and whatever a user points at."""

import torch

from medseg.architecture import PROMPT_CHANNELS
from medseg.networks.fitting import Fitted
from medseg.networks.network import Network


class Promptable(Fitted):
    """A network that takes images with the channels of prompts behind their own, or without.

    With them it returns all outputs, of which "object" is the last one: the mask of what the prompts say. Without them
    it segments as a network that knows no prompts: it sees prompts of nothing, and the output "object" is left out.

    Args:
        network: Of images with the channels of prompts; its last output is "object".
        in_channels: Channels of an image, without those of prompts.

    Examples:
        >>> import torch
        >>> from medseg.architecture import PromptChannels
        >>> from medseg.networks import Promptable, build_network, default_architecture
        >>> prompts = PromptChannels(point_radius_mm=5, scribble_radius_mm=2)
        >>> architecture = default_architecture(2).model_copy(update={"prompts": prompts})
        >>> network: Promptable = build_network(1, 3, architecture).eval()
        >>> image, prompts = torch.zeros(1, 1, 256, 256), torch.zeros(1, 7, 256, 256)
        >>> network(image).shape, network(torch.cat([image, prompts], 1)).shape
        (torch.Size([1, 3, 256, 256]), torch.Size([1, 4, 256, 256]))
    """

    def __init__(self, network: Network, in_channels: int) -> None:
        super().__init__(network)
        self.in_channels = in_channels

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Returns the logits of images ``(batch, channel, *spatial)``, in training a list of them."""
        if image.shape[1] != self.in_channels:
            return super().forward(image)
        nothing = image.new_zeros((len(image), len(PROMPT_CHANNELS), *image.shape[2:]))
        heads = super().forward(torch.cat([image, nothing], 1))
        return [head[:, :-1] for head in heads] if isinstance(heads, list) else heads[:, :-1]
