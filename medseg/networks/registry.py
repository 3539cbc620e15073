"""Networks by name."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from medseg.errors import ConfigError, did_you_mean, lacks_memory, reason_of
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.attention_unet import AttentionUNet, AttentionUNetArguments
from medseg.networks.fitting import Fitted
from medseg.networks.monai_networks import (
    PREFIX,
    AnyArguments,
    MedNeXtArguments,
    SegResNetArguments,
    SwinUNETRArguments,
    mednext,
    monai_network,
    segresnet,
    swin_unetr,
)
from medseg.networks.network import Network
from medseg.networks.residual_unet import ResidualUNet, ResidualUNetArguments
from medseg.networks.transunet import TransUNet, TransUNetArguments
from medseg.networks.unet import UNet
from medseg.networks.unet_3d_2016 import UNet3D2016Arguments, padded_unet_3d_2016, unet_3d_2016
from medseg.networks.unet_2015 import PaddedUNet2015Arguments, UNet2015Arguments, padded_unet_2015, unet_2015
from medseg.networks.unet_plus_plus import UNetPlusPlus, UNetPlusPlusArguments
from medseg.plan import Architecture

# A builder gets the number of input channels, the number of outputs (labels and background) and the architecture.
Builder = Callable[[int, int, Architecture], Network]


# Without normalization, or with a transformer, 1e-2 learns worse. Hippocampus in 2D, 300 steps of 8 patches: Dice was
# .05 at 1e-2, .45 at 3e-3 and .32 at 1e-3 for unet-2015, .35, .52 and .46 for transunet, .38 at 1e-2 and .44 at 3e-3
# for unet++, .62, .70 and .75 for swin-unetr.
CAREFUL_RATE = 3e-3


@dataclass(frozen=True)
class Entry:
    """A network that ``network.name`` can name."""

    build: Builder
    title: str
    source: str  # where it was published
    dims: tuple[int, ...] = (2, 3)
    arguments: type[Arguments] = Arguments  # what ``network.arguments`` may hold
    learning_rate: float = 1e-2  # the highest of the schedule, with AdamW


NETWORKS: dict[str, Entry] = {
    "unet": Entry(UNet, "U-Net as nnU-Net plans it", "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z"),
    "unet-2015": Entry(
        unet_2015,
        "U-Net of valid convolutions",
        "Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28",
        arguments=UNet2015Arguments,
        learning_rate=CAREFUL_RATE,
    ),
    "unet-2015-padded": Entry(
        padded_unet_2015,
        "U-Net, padded, with batch normalization",
        "after Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28",
        arguments=PaddedUNet2015Arguments,
    ),
    "unet-3d-2016": Entry(
        unet_3d_2016,
        "3D U-Net of valid convolutions",
        "Çiçek et al. 2016, doi:10.1007/978-3-319-46723-8_49",
        arguments=UNet3D2016Arguments,
    ),
    "unet-3d-2016-padded": Entry(
        padded_unet_3d_2016,
        "3D U-Net, padded",
        "after Çiçek et al. 2016, doi:10.1007/978-3-319-46723-8_49",
        arguments=UNet3D2016Arguments,
    ),
    "unet++": Entry(
        UNetPlusPlus,
        "U-Net++: nested, dense skips",
        "Zhou et al. 2018, doi:10.1007/978-3-030-00889-5_1",
        arguments=UNetPlusPlusArguments,
        learning_rate=CAREFUL_RATE,
    ),
    "attention-unet": Entry(
        AttentionUNet,
        "U-Net with attention gates on its skips",
        "Oktay et al. 2018, arXiv:1804.03999",
        arguments=AttentionUNetArguments,
    ),
    "residual-unet": Entry(
        ResidualUNet,
        "Residual-encoder U-Net of nnU-Net",
        "Isensee et al. 2024, doi:10.1007/978-3-031-72114-4_47",
        arguments=ResidualUNetArguments,
    ),
    "transunet": Entry(
        TransUNet,
        "TransUNet: ResNet and vision transformer",
        "Chen et al. 2021, arXiv:2102.04306",
        arguments=TransUNetArguments,
        learning_rate=CAREFUL_RATE,
    ),
    "segresnet": Entry(
        segresnet,
        "SegResNetDS of MONAI's Auto3DSeg",
        "Myronenko 2018, arXiv:1810.11654",
        arguments=SegResNetArguments,
    ),
    "swin-unetr": Entry(
        swin_unetr,
        "SwinUNETR: shifted windows of attention",
        "Hatamizadeh et al. 2022, arXiv:2201.01266",
        arguments=SwinUNETRArguments,
        learning_rate=CAREFUL_RATE,
    ),
    "mednext": Entry(
        mednext,
        "MedNeXt: large depthwise kernels",
        "Roy et al. 2023, arXiv:2303.09975",
        arguments=MedNeXtArguments,
    ),
}


MONAI = Entry(
    monai_network,
    "Any network of MONAI",
    "MONAI, https://docs.monai.io/en/stable/networks.html",
    arguments=AnyArguments,
    learning_rate=CAREFUL_RATE,
)


def entry_of(name: str) -> Entry:
    """Raises ``ConfigError`` for a name that isn't known."""
    if name.startswith(PREFIX):
        return MONAI
    if name not in NETWORKS:
        raise ConfigError(f"network.name: there is no network '{name}'{did_you_mean(name, NETWORKS)}")
    return NETWORKS[name]


def shapes_of(inputs: int, outputs: int, architecture: Architecture) -> dict[str, tuple[int, ...]] | None:
    """Of the tensors in the network's state, which takes no memory; None for the few that cannot be built without.
    Raises as ``build_network`` does."""
    try:
        with torch.device("meta"):
            network = build_network(inputs, outputs, architecture)
    except ConfigError as error:
        if isinstance(error.__cause__, NotImplementedError | RuntimeError):
            return None
        raise
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def build_network(inputs: int, outputs: int, architecture: Architecture, checkpointing: bool = False) -> Network:
    """The network; one that pads takes images of any shape. Raises ``ConfigError`` for a name that isn't known, for
    a network that has no such dimensions, and for numbers that make no network, or one larger than memory."""
    entry = entry_of(architecture.name)
    dims = len(architecture.strides[0])
    if dims not in entry.dims:
        raise ConfigError(
            f"network.name: {architecture.name} is a {entry.dims[0]}D network; train it with --dims {entry.dims[0]}"
        )
    arguments_of(architecture, entry.arguments)  # so that networks without arguments refuse them too
    try:
        network = entry.build(inputs, outputs, architecture)
    except ConfigError:
        raise
    except Exception as error:  # whatever PyTorch and MONAI say about its numbers
        features = "-".join(map(str, architecture.features))
        reason = "there is too little memory for it" if lacks_memory(error) else reason_of(error)
        raise ConfigError(
            f"network: {architecture.name} of features {features} cannot be built ({reason}); change "
            "network.features or network.arguments"
        ) from error
    network.checkpointing = checkpointing
    return network if any(network.margin) else Fitted(network)
