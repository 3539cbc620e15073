"""Any spatial shape for networks that take multiples of their strides only."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from medseg.networks.network import Network


class Fitted(Network):
    """A network for images of any spatial shape.

    It pads the image, by repeating its border, to the shape that ``network`` takes, and crops the logits back.
    """

    def __init__(self, network: Network) -> None:
        super().__init__((1,) * len(network.multiple_of))
        self.network = network
        self.deep_supervision = network.deep_supervision

    @property
    def head_weights(self) -> tuple[float, ...] | None:
        """The weights of ``network``'s heads in the loss; None: each weighs half as much as the finer one before."""
        return self.network.head_weights

    def fitting_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape itself: any shape fits."""
        return tuple(shape)

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape that ``network`` takes."""
        return self.network.fitting_shape(shape)

    def arguments_for(self, shape: Sequence[int]) -> dict[str, Any]:
        """Returns the arguments that follow from the shape to which a patch is padded."""
        return self.network.arguments_for(self.padded_shape(shape))

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Returns the logits of images ``(batch, channel, *spatial)`` of any spatial shape."""
        shape = tuple(image.shape[2:])
        fitting = self.padded_shape(shape)
        logits = self.network(padded(image, fitting))
        if isinstance(logits, list):
            return [cropped(head, shape, fitting) for head in logits]
        return cropped(logits, shape, fitting)


def padded(image: torch.Tensor, fitting: Sequence[int]) -> torch.Tensor:
    """Returns the image ``(batch, channel, *spatial)`` in a larger shape.

    Its border is repeated after the end of each axis.
    """
    shape = tuple(image.shape[2:])
    if shape == tuple(fitting):
        return image
    added = [end for n, m in zip(shape[::-1], fitting[::-1], strict=True) for end in (0, m - n)]
    return functional.pad(image, added, mode="replicate")


def cropped(head: torch.Tensor, shape: Sequence[int], fitting: Sequence[int]) -> torch.Tensor:
    """Returns the part of a head that lies on the image; the head may be of a lower resolution.

    Args:
        head: Logits of the padded image, ``(batch, label, *spatial)``.
        shape: The spatial shape of the image.
        fitting: The spatial shape to which it was padded.
    """
    if tuple(shape) == tuple(fitting):
        return head
    kept = (-(-n * small // large) for n, large, small in zip(shape, fitting, head.shape[2:], strict=True))
    return head[(slice(None), slice(None), *(slice(n) for n in kept))]
