"""Networks by name."""

from collections.abc import Callable

from torch import nn

from medseg.errors import ConfigError, did_you_mean
from medseg.networks.unet import UNet
from medseg.plan import Architecture

# A builder gets the number of input channels, the number of outputs (labels and background) and the architecture.
Builder = Callable[[int, int, Architecture], nn.Module]

NETWORKS: dict[str, Builder] = {"unet": UNet}


def build_network(inputs: int, outputs: int, architecture: Architecture) -> nn.Module:
    """Raises ``ConfigError`` for a name that isn't known."""
    builder = NETWORKS.get(architecture.name)
    if builder is None:
        raise ConfigError(
            f"network.name: there is no network '{architecture.name}'{did_you_mean(architecture.name, NETWORKS)}"
        )
    return builder(inputs, outputs, architecture)
