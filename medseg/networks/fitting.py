"""Any spatial shape for networks that take multiples of their strides only."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from medseg.networks.network import Network


class Fitted(Network):
    """Pads the image, by repeating its border, to the shape that ``network`` takes, and crops the logits back."""

    def __init__(self, network: Network) -> None:
        super().__init__((1,) * len(network.multiple_of))
        self.network = network
        self.deep_supervision = network.deep_supervision

    @property
    def head_weights(self) -> tuple[float, ...] | None:
        return self.network.head_weights

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        shape = tuple(image.shape[2:])
        fitting = self.network.fitting_shape(shape)
        if fitting == shape:
            return self.network(image)  # type: ignore[no-any-return]
        added = [end for n, m in zip(shape[::-1], fitting[::-1], strict=True) for end in (0, m - n)]
        logits = self.network(functional.pad(image, added, mode="replicate"))
        heads = logits if isinstance(logits, list) else [logits]
        cropped = [_cropped(head, shape, fitting) for head in heads]
        return cropped if isinstance(logits, list) else cropped[0]


def _cropped(head: torch.Tensor, shape: Sequence[int], fitting: Sequence[int]) -> torch.Tensor:
    """What lies on the image, of a head at full resolution or a lower one."""
    kept = (-(-n * small // large) for n, large, small in zip(shape, fitting, head.shape[2:], strict=True))
    return head[(slice(None), slice(None), *(slice(n) for n in kept))]
