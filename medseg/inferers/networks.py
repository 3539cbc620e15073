"""Networks as inference runs them: several as one, and faster where only inference may change them."""

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

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the mean logits of all networks, float32."""
        total: torch.Tensor = self.networks[0](image).float()
        for network in list(self.networks)[1:]:
            total += network(image)
        return total / len(self.networks)


def fused(network: nn.Module) -> nn.Module:
    """Puts group normalization of one channel a group, which is the same, in place of instance normalization.

    PyTorch's kernel for it takes channels last, where that of instance normalization copies there and back: half of the
    time that a network takes on a processor. Weights are shared; their names stay. In float32 it is less exact (logits
    differ by up to 4e-3, measured), far below the rounding of bf16, for which it is meant.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d) and not child.track_running_stats:
            setattr(network, name, _group_norm(child))
        else:
            fused(child)
    return network


def _group_norm(norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> nn.GroupNorm:
    group_norm = nn.GroupNorm(norm.num_features, norm.num_features, norm.eps, affine=norm.affine)
    if norm.affine:
        group_norm.weight, group_norm.bias = norm.weight, norm.bias
    return group_norm.train(norm.training)
