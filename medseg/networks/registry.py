"""Networks by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from medseg.errors import ConfigError, MedsegError, did_you_mean, lacks_memory, reason_of
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.attention_unet import AttentionUNet, AttentionUNetArguments
from medseg.networks.dynunet import DynUNet, DynUNetArguments
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
from medseg.networks.plugin_networks import plugin_network
from medseg.networks.residual_unet import ResidualUNet, ResidualUNetArguments
from medseg.networks.transunet import TransUNet, TransUNetArguments
from medseg.networks.unet import UNet
from medseg.networks.unet_3d_2016 import UNet3D2016Arguments, padded_unet_3d_2016, unet_3d_2016
from medseg.networks.unet_2015 import PaddedUNet2015Arguments, UNet2015Arguments, padded_unet_2015, unet_2015
from medseg.networks.unet_plus_plus import UNetPlusPlus, UNetPlusPlusArguments
from medseg.plan import Architecture, Plan
from medseg.plugins import Registered, plugin_of, registered

Builder = Callable[[int, int, Architecture], Network]  # of the channels in and out, and the architecture

# Without normalization, or with a transformer, 1e-2 learns worse. Hippocampus in 2D, 300 steps of 8 patches: Dice was
# .05 at 1e-2, .45 at 3e-3 and .32 at 1e-3 for unet-2015, .35, .52 and .46 for transunet, .38 at 1e-2 and .44 at 3e-3
# for unet++, .62, .70 and .75 for swin-unetr.
CAREFUL_RATE = 3e-3


@dataclass(frozen=True)
class Entry:
    """A network that ``network.name`` can name.

    Attributes:
        build: Makes it of the number of input channels, of output channels, and the architecture.
        title: A few words.
        source: Where it was published.
        dims: 2, 3 or both.
        arguments: What ``network.arguments`` may hold.
        learning_rate: The highest of the schedule, with Muon or AdamW.
        plugin: Whose network it is.
    """

    build: Builder
    title: str
    source: str
    dims: tuple[int, ...] = (2, 3)
    arguments: type[Arguments] = Arguments
    learning_rate: float = 1e-2
    plugin: Registered | None = None


NETWORKS: dict[str, Entry] = {
    "unet": Entry(UNet, "U-Net as nnU-Net plans it", "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z"),
    "dynunet": Entry(
        DynUNet,
        "MONAI's DynUNet with the plan's strides and kernels",
        "MONAI, after Isensee et al. 2021, doi:10.1038/s41592-020-01008-z",
        arguments=DynUNetArguments,
    ),
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
    """Returns what is known of a network: medseg's own, MONAI's by "monai.NAME", or a plugin's.

    Raises:
        ConfigError: There is no network of this name.
        PluginError: A plugin took the name of a network that was there before.
    """
    plugin = plugin_of("network", name, is_taken=name in NETWORKS or name.startswith(PREFIX))
    if plugin is not None:
        title, build = plugin.title or f"of {plugin.file.name}", partial(plugin_network, plugin)
        source = plugin.source or str(plugin.file)
        return Entry(build, title, source, plugin.dims, AnyArguments, plugin.learning_rate, plugin)
    if name.startswith(PREFIX):
        return MONAI
    if name not in NETWORKS:
        names = [*NETWORKS, *(each.name for each in registered("network"))]
        raise ConfigError(
            f"network.name: there is no network '{name}'{did_you_mean(name, names)}; one of a plugin needs --plugin"
        )
    return NETWORKS[name]


def create_network(
    name: str = "unet",
    *,
    in_channels: int,
    out_channels: int,
    plan: Plan | Architecture | None = None,
    spatial_dims: Literal[2, 3] = 3,
    **arguments: Any,
) -> Network:
    """Returns a network with random weights.

    Args:
        name: As ``medseg networks`` lists them; "monai.SwinUNETR" and the like are MONAI's classes; others are those
            of plugins.
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        plan: Says how deep and wide the network is, its strides and its kernels: a plan of ``medseg preprocess``, or an
            ``Architecture``. None: ``default_architecture(spatial_dims)``.
        spatial_dims: Spatial axes of the image, where there is no plan.
        **arguments: What this network alone knows: ``blocks=(1, 3, 4, 6)``. ``medseg networks NAME`` lists it.

    Returns:
        A module from images, ``(batch, in_channels, *spatial)``, of any spatial shape to logits,
        ``(batch, out_channels, *spatial)``. While it trains with deep supervision it returns a list of them, from the
        finest down. Logits of networks of valid convolutions are those of the centre, without ``margin``.

    Raises:
        ConfigError: There is no such network, or it has no such arguments or dimensions.
        PluginError: The network of a plugin raised an error.

    Example:
        >>> from medseg.networks import create_network
        >>> network = create_network("residual-unet", in_channels=1, out_channels=2, spatial_dims=2, blocks=(1, 2))
        >>> unetr = create_network("monai.UNETR", in_channels=1, out_channels=2, img_size=(32, 32, 32))
    """
    architecture = plan.architecture if isinstance(plan, Plan) else plan or default_architecture(spatial_dims)
    if architecture.name == name:
        arguments = architecture.arguments | arguments
    named = architecture.model_copy(update={"name": name, "arguments": arguments})
    return build_network(in_channels, out_channels, named)


def default_architecture(spatial_dims: Literal[2, 3], deep_supervision: bool = False) -> Architecture:
    """Returns depth, width, strides and kernels that nnU-Net plans for large images of cubic voxels.

    Args:
        spatial_dims: 2: eight stages of 32 to 512 features; 3: six stages of 32 to 320 features.
        deep_supervision: Whether the network gives a list of logits while it trains.

    Raises:
        ConfigError: There are no networks of so many axes.
    """
    if spatial_dims not in (2, 3):
        raise ConfigError(f"spatial_dims {spatial_dims}: give 2 or 3")
    stages, most = {2: (8, 512), 3: (6, 320)}[spatial_dims]
    return Architecture(
        features=tuple(min(32 * 2**stage, most) for stage in range(stages)),
        strides=((1,) * spatial_dims, *((2,) * spatial_dims,) * (stages - 1)),
        kernel_sizes=((3,) * spatial_dims,) * stages,
        deep_supervision=deep_supervision,
    )


def shapes_of(in_channels: int, out_channels: int, architecture: Architecture) -> dict[str, tuple[int, ...]] | None:
    """Returns the shapes of the tensors in the network's state, without taking memory.

    Returns:
        A shape by name; None for the few networks that cannot be built without memory.

    Raises:
        ConfigError: As of ``build_network``.
    """
    try:
        with torch.device("meta"):
            network = build_network(in_channels, out_channels, architecture)
    except ConfigError as error:
        if isinstance(error.__cause__, NotImplementedError | RuntimeError):
            return None
        raise
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def build_network(
    in_channels: int, out_channels: int, architecture: Architecture, checkpointing: bool = False
) -> Network:
    """Returns the network that an architecture describes, with random weights.

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Names the network, and says how deep and wide it is.
        checkpointing: Whether activations are computed again in the backward pass instead of being kept.

    Raises:
        ConfigError: There is no network of this name or of these dimensions, or its numbers make no network, or one
            larger than memory.
        PluginError: The network of a plugin raised an error.
    """
    entry = entry_of(architecture.name)
    dims = len(architecture.strides[0])
    if dims not in entry.dims:
        raise ConfigError(
            f"network.name: {architecture.name} is a {entry.dims[0]}D network; train it with --dims {entry.dims[0]}"
        )
    arguments_of(architecture, entry.arguments)  # so that networks without arguments refuse them too
    try:
        network = entry.build(in_channels, out_channels, architecture)
    except MedsegError:
        raise
    except Exception as error:  # whatever PyTorch and MONAI say about its numbers
        features = "-".join(map(str, architecture.features))
        reason = "there is too little memory for it" if lacks_memory(error) else reason_of(error)
        raise ConfigError(
            f"network: {architecture.name} of features {features} cannot be built ({reason}); change "
            "network.features or network.arguments"
        ) from error
    network.checkpointing = checkpointing
    built = network if any(network.margin) else Fitted(network)
    built.architecture = architecture
    return built
