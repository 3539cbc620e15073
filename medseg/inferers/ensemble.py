"""Several networks as one, as inference runs them."""

from collections.abc import Sequence

import torch
from torch import nn

from medseg.networks.network import Network


class Ensemble(Network):
    """The mean of the logits that networks of one plan give for a window, as nnU-Net takes of its folds."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        first = networks[0]
        super().__init__(getattr(first, "multiple_of", ()))  # of a module of the user's nothing is known
        self.margin = getattr(first, "margin", ())
        self.networks = nn.ModuleList(networks)

    def fitting_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the fitting shape of its first network; all have the same."""
        first: Network = self.networks[0]  # type: ignore[assignment]
        return first.fitting_shape(shape)

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape to which its first network pads; all have the same."""
        first: Network = self.networks[0]  # type: ignore[assignment]
        return first.padded_shape(shape)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the mean logits of all networks, float32."""
        total: torch.Tensor = self.networks[0](image).float()
        for network in list(self.networks)[1:]:
            total += network(image)
        return total / len(self.networks)
