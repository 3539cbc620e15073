"""Networks by name."""

from collections.abc import Callable
from dataclasses import dataclass

from medseg.errors import ConfigError, did_you_mean
from medseg.networks.fitting import Fitted
from medseg.networks.network import Network
from medseg.networks.residual_unet import ResidualUNet
from medseg.networks.unet import UNet
from medseg.plan import Architecture

# A builder gets the number of input channels, the number of outputs (labels and background) and the architecture.
Builder = Callable[[int, int, Architecture], Network]


@dataclass(frozen=True)
class Entry:
    """A network that ``network.name`` can name."""

    build: Builder
    title: str
    source: str  # where it was published
    dims: tuple[int, ...] = (2, 3)


NETWORKS: dict[str, Entry] = {
    "unet": Entry(UNet, "U-Net as nnU-Net plans it", "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z"),
    "residual-unet": Entry(
        ResidualUNet, "Residual-encoder U-Net of nnU-Net", "Isensee et al. 2024, doi:10.1007/978-3-031-72114-4_47"
    ),
}


def build_network(inputs: int, outputs: int, architecture: Architecture, checkpointing: bool = False) -> Network:
    """The network; one that pads takes images of any shape. Raises ``ConfigError`` for a name that isn't known, and for
    a network that has no such dimensions."""
    entry = NETWORKS.get(architecture.name)
    if entry is None:
        raise ConfigError(
            f"network.name: there is no network '{architecture.name}'{did_you_mean(architecture.name, NETWORKS)}"
        )
    dims = len(architecture.strides[0])
    if dims not in entry.dims:
        raise ConfigError(
            f"network.name: {architecture.name} is a {entry.dims[0]}D network; train it with --dims {entry.dims[0]}"
        )
    network = entry.build(inputs, outputs, architecture)
    network.checkpointing = checkpointing
    return network if any(network.margin) else Fitted(network)
