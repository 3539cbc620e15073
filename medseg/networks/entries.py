"""The networks that can be named, and what is known of each without building it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from medseg.architecture import Architecture
from medseg.errors import ConfigError, did_you_mean
from medseg.networks.arguments import Arguments
from medseg.networks.attention_unet import AttentionUNet, AttentionUNetArguments
from medseg.networks.dynunet import DynUNet, DynUNetArguments
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
from medseg.networks.unet import UNet, UNetArguments
from medseg.networks.unet_3d_2016 import UNet3D2016Arguments, padded_unet_3d_2016, unet_3d_2016
from medseg.networks.unet_2015 import PaddedUNet2015Arguments, UNet2015Arguments, padded_unet_2015, unet_2015
from medseg.networks.unet_plus_plus import UNetPlusPlus, UNetPlusPlusArguments
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

    Example:
        >>> from medseg.networks import NETWORKS, Entry, entry_of
        >>> entry = NETWORKS["residual-unet"]
        >>> isinstance(entry, Entry), entry.dims, entry_of("residual-unet") is entry
        (True, (2, 3), True)
    """

    build: Builder
    title: str
    source: str
    dims: tuple[int, ...] = (2, 3)
    arguments: type[Arguments] = Arguments
    learning_rate: float = 1e-2
    plugin: Registered | None = None


NETWORKS: dict[str, Entry] = {
    "unet": Entry(
        UNet,
        "U-Net as nnU-Net plans it",
        "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z",
        arguments=UNetArguments,
    ),
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
