"""Modules of others as networks of medseg."""

import copy

import torch
from torch import nn

from medseg.cpu_layers import on_cpu
from medseg.networks import WrappedNetwork


class OneNorm(nn.Module):
    """A network whose largest parts are single layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv3d(2, 16, 3, padding=1), nn.InstanceNorm3d(16, affine=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        normal: torch.Tensor = self.norm(self.first(image))
        return normal


def test_layers_of_a_wrapped_network_take_the_forms_of_a_processor() -> None:
    """Also where they are the parts that can be computed again in the backward pass."""
    network = on_cpu(WrappedNetwork(OneNorm(), (1, 1, 1)).to(memory_format=torch.channels_last_3d))
    image = torch.randn(2, 2, 16, 16, 8).contiguous(memory_format=torch.channels_last_3d)
    assert network(image).is_contiguous(memory_format=torch.channels_last_3d)
    other = copy.deepcopy(network)
    nn.init.zeros_(other.network.norm.weight)  # type: ignore[arg-type, union-attr]
    assert float(other(image).detach().abs().max()) == 0
    assert float(network(image).detach().abs().max()) > 0
