"""The U-Net that nnU-Net plans (Isensee et al. 2021; "PlainConvUNet"), in 2D and 3D from one definition.

Each stage is a stack of convolution, instance norm and leaky ReLU; the first convolution of a stage strides; the way
up is a transposed convolution, concatenation and the same stack. With deep supervision there is a head at every
resolution of the decoder. Where the first stage strides, the network works at a part of the resolution, and its last
head is a transposed convolution, which gives the logits of each voxel. (MONAI's DynUNet is close, but it interpolates
the deep outputs to full size, where the loss then costs as much as at the finest resolution.)
"""

from collections.abc import Sequence
from math import prod

import torch
from pydantic import Field, PositiveInt
from torch import nn

from medseg.architecture import Architecture
from medseg.cpu_layers import CpuConv3d, CpuConvTranspose3d
from medseg.errors import ConfigError
from medseg.memory_order import concatenated, longest_axis_last
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.blocks import CONVOLUTION, UP_CONVOLUTION, NormName, normalization
from medseg.networks.network import Network

NEGATIVE_SLOPE = 0.01


class ConvolutionArguments(Arguments):
    """What convolutions are followed by."""

    norm: NormName = "instance"
    """After each convolution."""
    bias: bool = True
    """Whether convolutions have a bias."""
    negative_slope: float = Field(NEGATIVE_SLOPE, ge=0, lt=1)
    """Of the leaky ReLU; 0: a ReLU."""


class UNetArguments(ConvolutionArguments):
    """What ``network.arguments`` may hold for unet."""

    convolutions: tuple[PositiveInt, ...] = ()
    """Of each stage of the encoder, from full resolution down; none: as many everywhere."""
    decoder_convolutions: tuple[PositiveInt, ...] = ()
    """Of each stage of the decoder, from full resolution down; none: as many everywhere."""


DEFAULT_FORM = ConvolutionArguments()


class ConvolutionStack(nn.Sequential):
    """Several times convolution, norm, leaky ReLU; the first one has the stride."""

    def __init__(
        self,
        n: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        form: ConvolutionArguments = DEFAULT_FORM,
    ) -> None:
        dims = len(kernel_size)
        padding = tuple(k // 2 for k in kernel_size)
        layers: list[nn.Module] = []
        for i in range(n):
            layers += [
                CONVOLUTION[dims](
                    in_channels if i == 0 else out_channels,
                    out_channels,
                    tuple(kernel_size),
                    tuple(stride) if i == 0 else 1,
                    padding,
                    bias=form.bias,
                ),
                normalization(form.norm, out_channels, dims),
                nn.LeakyReLU(form.negative_slope, inplace=True),
            ]
        super().__init__(*layers)


class UNet(Network):
    """The U-Net that nnU-Net plans.

    It takes images, ``(batch, channel, *spatial)``, of edges that are multiples of its strides, and returns logits,
    ``(batch, label, *spatial)``. While it trains with deep supervision it returns a list of them: each head is half the
    size (or as strided) of the one before.

    Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Depth, width, strides and kernels; ``arguments``: convolutions, decoder_convolutions, norm, bias,
            negative_slope.

    Raises:
        ConfigError: There are not as many numbers of convolutions as stages.

    Examples:
        >>> import torch
        >>> from medseg.networks import Architecture, UNet
        >>> strides, kernel_sizes = ((1, 1, 1), (1, 2, 2)), ((1, 3, 3), (3, 3, 3))
        >>> architecture = Architecture(features=(8, 16), strides=strides, kernel_sizes=kernel_sizes)
        >>> network = UNet(in_channels=1, out_channels=3, architecture=architecture).eval()
        >>> network(torch.zeros(1, 1, 7, 32, 24)).shape
        torch.Size([1, 3, 7, 32, 24])
    """

    def __init__(self, in_channels: int, out_channels: int, architecture: Architecture) -> None:
        features, strides, kernels = architecture.features, architecture.strides, architecture.kernel_sizes
        super().__init__([prod(axis) for axis in zip(*strides, strict=True)])
        form, n = self.form(architecture), self.decoder_convolutions(architecture)
        dims, ones = len(strides[0]), (1,) * len(strides[0])
        self.deep_supervision = architecture.deep_supervision
        self.encoder = nn.ModuleList(self.encoder_stages(in_channels, architecture))
        below = range(len(features) - 1, 0, -1)  # from the bottleneck up
        self.up = nn.ModuleList(
            UP_CONVOLUTION[dims](features[i], features[i - 1], strides[i], strides[i], bias=form.bias) for i in below
        )
        self.decoder = nn.ModuleList(
            ConvolutionStack(n[i - 1], 2 * features[i - 1], features[i - 1], kernels[i - 1], ones, form) for i in below
        )
        # A head a resolution where they are trained; else, and without a way up, only the last one has a use.
        with_head = below if self.deep_supervision and below else [1]
        self.heads = nn.ModuleList(CONVOLUTION[dims](features[i - 1], out_channels, 1) for i in with_head)
        if max(strides[0]) > 1:
            self.heads[-1] = UP_CONVOLUTION[dims](features[0], out_channels, strides[0], strides[0])
        self.apply(initialise_unet)

    def form(self, architecture: Architecture) -> ConvolutionArguments:
        """Returns what convolutions are followed by."""
        return arguments_of(architecture, UNetArguments)

    def encoder_stages(self, in_channels: int, architecture: Architecture) -> list[nn.Module]:
        """Returns one module a stage, from full resolution down."""
        before, form = (in_channels, *architecture.features), arguments_of(architecture, UNetArguments)
        stages = len(architecture.features)
        counts = numbers_by_stage(form.convolutions, stages, architecture.convolutions_per_stage, "convolutions")
        return [
            ConvolutionStack(counts[i], before[i], n, kernel, stride, form)
            for i, (n, kernel, stride) in enumerate(
                zip(architecture.features, architecture.kernel_sizes, architecture.strides, strict=True)
            )
        ]

    def decoder_convolutions(self, architecture: Architecture) -> Sequence[int]:
        """Returns how many convolutions each stage of the decoder has, from full resolution down."""
        given, stages = arguments_of(architecture, UNetArguments).decoder_convolutions, len(architecture.features) - 1
        return numbers_by_stage(given, stages, architecture.convolutions_per_stage, "decoder_convolutions")

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Returns the logits, ``(batch, label, *spatial)``; in training with deep supervision a list of them.

        The list goes from the finest down.
        """
        if isinstance(self.heads[-1], CpuConv3d | CpuConvTranspose3d):  # its layers take any order in memory
            image = longest_axis_last(image)
        skips = []
        for stage in self.encoder:
            image = self.run(stage, image)
            skips.append(image)
        skips.pop()
        decoded = []
        for up, stage in zip(self.up, self.decoder, strict=True):
            image = self.run(stage, concatenated(up(image), skips.pop()))
            decoded.append(image)
        decoded = decoded or [image]  # a patch too small to be pooled has one stage
        if self.training and self.deep_supervision:
            return [head(part) for head, part in zip(self.heads, decoded, strict=True)][::-1]
        logits: torch.Tensor = self.heads[-1](decoded[-1])
        return logits


def initialise_unet(module: nn.Module) -> None:
    """Draws the weights of a convolution after He et al. 2015, for the slope of the leaky ReLU.

    Weights without memory (device "meta") stay as they are.
    """
    kinds = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
    if isinstance(module, kinds) and not module.weight.is_meta:  # drawing there imports all of torch._dynamo
        nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def numbers_by_stage(given: Sequence[int], stages: int, otherwise: int, name: str) -> Sequence[int]:
    """Returns a number for each stage: those of an argument, or the same everywhere where it has none.

    Args:
        given: The numbers of the argument.
        stages: How many there are.
        otherwise: The number of each stage where none is given.
        name: Of the argument.

    Raises:
        ConfigError: There are not as many numbers as stages.
    """
    if given and len(given) != stages:
        raise ConfigError(f"network.arguments.{name}: has {len(given)} numbers; give {stages}, one a stage")
    return given or (otherwise,) * stages
