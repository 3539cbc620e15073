"""Networks of MONAI: three with settings that follow from the plan, and any other by its name.

MONAI is imported when one of them is built, since that takes seconds.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field, PositiveInt
from torch import nn

from medseg.architecture import Architecture
from medseg.errors import ConfigError, did_you_mean
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.network import Network
from medseg.networks.wrapped import ShapeTrial, WrappedNetwork

PREFIX = "monai."


class SegResNetArguments(Arguments):
    """What ``network.arguments`` may hold for segresnet."""

    blocks: tuple[PositiveInt, ...] = Field((1, 2, 2, 4, 4), min_length=1)
    """Of each stage; stages that the plan has."""
    filters: PositiveInt | None = None
    """At full resolution. None: the plan's first number of features."""


def segresnet(in_channels: int, out_channels: int, architecture: Architecture) -> Network:
    """Returns MONAI's SegResNetDS with the settings of its Auto3DSeg.

    They are instance norm, blocks 1-2-2-4-4, at most five stages, and a head at every resolution: 87,167,276 parameters
    with 32 filters, four channels and three outputs. Features double with each stage. An axis is left out of the first
    poolings where the plan does so.

    Source: Myronenko 2018, arXiv:1810.11654.
    """
    from monai.networks.nets import SegResNetDS

    arguments = arguments_of(architecture, SegResNetArguments)
    blocks = arguments.blocks[: len(architecture.strides)]
    # MONAI's rule for millimetres: an axis that is 2ⁿ times as coarse as the finest isn't pooled the first n times.
    unpooled = [_leading_ones(axis) for axis in zip(*architecture.strides[1 : len(blocks)], strict=True)]
    resolution = tuple(2.0**n for n in unpooled) or None
    network = SegResNetDS(
        spatial_dims=len(architecture.strides[0]),
        init_filters=arguments.filters or architecture.features[0],
        in_channels=in_channels,
        out_channels=out_channels,
        norm="instance",
        blocks_down=blocks,
        dsdepth=len(blocks) - 1 if architecture.deep_supervision else 1,
        resolution=resolution,
    )
    return WrappedNetwork(network, [int(n) for n in network.shape_factor()], architecture.deep_supervision)


def _leading_ones(strides: Sequence[int]) -> int:
    return next((i for i, stride in enumerate(strides) if stride > 1), 0)


class SwinUNETRArguments(Arguments):
    """What ``network.arguments`` may hold for swin_unetr."""

    feature_size: PositiveInt | None = Field(None, multiple_of=12)
    """At half resolution. None: 1.5 times the plan's first number of features, 48 for 32."""
    v2: bool = False
    """With a residual convolution before each stage (He et al. 2023)."""


def swin_unetr(in_channels: int, out_channels: int, architecture: Architecture) -> Network:
    """Returns MONAI's SwinUNETR.

    It has 62,187,296 parameters for one channel and 14 outputs in 3D with the published feature size of 48. Shapes are
    multiples of 32 whatever the plan's strides.

    Source: Hatamizadeh et al. 2022, arXiv:2201.01266.
    """
    from monai.networks.nets import SwinUNETR

    arguments = arguments_of(architecture, SwinUNETRArguments)
    dims = len(architecture.strides[0])
    network = SwinUNETR(
        in_channels=in_channels,
        out_channels=out_channels,
        feature_size=arguments.feature_size or 12 * max(1, round(architecture.features[0] / 8)),
        spatial_dims=dims,
        use_v2=arguments.v2,
    )
    return WrappedNetwork(network, (32,) * dims)


class MedNeXtArguments(Arguments):
    """What ``network.arguments`` may hold for mednext."""

    size: Literal["S", "B", "M", "L"] = "S"
    """As published: blocks and how far they widen."""
    kernel_size: Literal[3, 5] = 3
    """Of the depthwise convolutions."""
    filters: PositiveInt | None = None
    """At full resolution. None: the plan's first number of features; published: 32."""


# Roy et al. 2023, table 1: blocks and expansion ratios of the stages on the way down; the way up mirrors them.
MEDNEXT_SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "S": ((2, 2, 2, 2), (2, 2, 2, 2), 2),
    "B": ((2, 2, 2, 2), (2, 3, 4, 4), 4),
    "M": ((3, 4, 4, 4), (2, 3, 4, 4), 4),
    "L": ((3, 4, 8, 8), (3, 4, 8, 8), 8),
}


def mednext(in_channels: int, out_channels: int, architecture: Architecture) -> Network:
    """Returns MONAI's MedNeXt.

    With 32 filters, kernels of 3, one channel and two outputs it has 5.6, 10.5, 17.5 and 61.7 M parameters by size;
    published are 5.6, 10.5, 17.6 and 61.8. There are heads at five resolutions. Shapes are multiples of 16 whatever the
    plan's strides.

    Source: Roy et al. 2023, arXiv:2303.09975.
    """
    from monai.networks.blocks.mednext_block import MedNeXtDownBlock
    from monai.networks.nets import MedNeXt

    arguments = arguments_of(architecture, MedNeXtArguments)
    dims = len(architecture.strides[0])
    blocks, ratios, ratio_at_the_bottom = MEDNEXT_SIZES[arguments.size]
    network = MedNeXt(
        spatial_dims=dims,
        init_filters=arguments.filters or architecture.features[0],
        in_channels=in_channels,
        out_channels=out_channels,
        encoder_expansion_ratio=ratios,
        decoder_expansion_ratio=ratios[::-1],
        bottleneck_expansion_ratio=ratio_at_the_bottom,
        kernel_size=arguments.kernel_size,
        deep_supervision=architecture.deep_supervision,
        use_residual_connection=True,
        blocks_down=blocks,
        blocks_bottleneck=blocks[-1],
        blocks_up=blocks[::-1],
    )
    for part in network.modules():
        if isinstance(part, MedNeXtDownBlock):
            part.res_conv.stride = (1,) * dims
            part.res_conv.register_forward_pre_hook(every_second_voxel)
    return WrappedNetwork(network, (16,) * dims, architecture.deep_supervision)


def every_second_voxel(_conv: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Returns what a 1×1 convolution of stride 2 sees, as a hook before a convolution of stride 1.

    With channels last and numbers of channels that are no multiple of 16, the backward pass of stride 2 crashes in
    torch 2.13 on a processor; that of a stride of 1 doesn't.
    """
    (image,) = inputs
    whole, half = slice(None), slice(None, None, 2)
    return (image[(whole, whole, *[half] * (image.ndim - 2))],)


class AnyArguments(Arguments):
    """Those of MONAI's class."""

    model_config = ConfigDict(extra="allow", frozen=True)


FILLED_IN = ("spatial_dims", "in_channels", "out_channels")


def monai_network(in_channels: int, out_channels: int, architecture: Architecture) -> Network:
    """Returns the network of ``monai.networks.nets`` that ``monai.NAME`` names, called with ``network.arguments``.

    Channels, outputs and dimensions are filled in. Which shapes it takes is found by trying, without computing
    anything.

    Raises:
        ConfigError: MONAI has no segmentation network of this name, or it doesn't take these arguments.
    """
    from monai.utils import ensure_tuple_rep

    name, dims = architecture.name.removeprefix(PREFIX), len(architecture.strides[0])
    kinds = segmentation_networks()
    if name not in kinds:
        raise ConfigError(f"network.name: MONAI has no segmentation network '{name}'{did_you_mean(name, kinds)}")
    arguments = architecture.arguments
    _check_arguments(name, kinds[name], arguments)
    filled_in = dict(zip(FILLED_IN, (dims, in_channels, out_channels), strict=True))
    try:
        network = kinds[name](**filled_in, **arguments)
    except Exception as error:  # whatever MONAI says about its arguments
        raise ConfigError(f"network.arguments: {PREFIX}{name} cannot be built with them: {error}") from error
    trial = ShapeTrial(architecture.name, network, in_channels, out_channels)
    if "img_size" in arguments:
        return trial.wrapped_for(network, ensure_tuple_rep(arguments["img_size"], dims))
    return trial.wrapped(network, dims, architecture.deep_supervision)


def segmentation_networks() -> dict[str, type[nn.Module]]:
    """Returns the classes of ``monai.networks.nets`` that take channels, outputs and dimensions, by name."""
    import monai.networks.nets as nets

    found = {name: getattr(nets, name) for name in dir(nets)}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind)
        and issubclass(kind, nn.Module)
        and kind.__name__ == name
        and set(FILLED_IN) <= set(inspect.signature(kind).parameters)
    }


def _check_arguments(name: str, kind: type[nn.Module], arguments: dict[str, Any]) -> None:
    known = {
        key: p
        for key, p in inspect.signature(kind).parameters.items()
        if key not in FILLED_IN and p.kind != p.VAR_KEYWORD
    }
    for key in arguments:
        if key in FILLED_IN:
            raise ConfigError(f"network.arguments.{key}: follows from the data; leave it out")
        if key not in known:
            raise ConfigError(f"network.arguments.{key}: {PREFIX}{name} has no such argument{did_you_mean(key, known)}")
        if key.startswith("pretrained"):
            raise ConfigError(f"network.arguments.{key}: nothing is downloaded; give a file by network.weights")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ConfigError(f"network.arguments.{key}: {PREFIX}{name} needs it; see its documentation of MONAI")
