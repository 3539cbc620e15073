"""The residual-encoder U-Net of nnU-Net (Isensee et al. 2024, doi:10.1007/978-3-031-72114-4_47; "ResEnc").

A stem and stages of residual blocks (ResNet-D: He et al. 2019, arXiv:1812.01187), more of them the deeper they lie,
go down; the way up is the U-Net's with one convolution a stage. For the same plan parameters are as many as in the
peer's ``ResidualEncoderUNet``, which counts the heads of all resolutions, also when only the last one is in use; here
they are there with deep supervision only.
"""

from collections.abc import Sequence

import torch
from pydantic import Field, PositiveInt
from torch import nn

from medseg.architecture import Architecture
from medseg.networks.arguments import arguments_of
from medseg.networks.unet import ConvolutionArguments, ConvolutionStack, UNet, numbers_by_stage


class ResidualUNetArguments(ConvolutionArguments):
    """What ``network.arguments`` may hold for residual_unet."""

    blocks: tuple[PositiveInt, ...] = Field((1, 3, 4, 6), min_length=1)
    """Residual blocks of each stage, from full resolution down; the last number holds for all stages below."""
    decoder_convolutions: PositiveInt | tuple[PositiveInt, ...] = 1
    """Of each stage; several: of each, from full resolution down."""


class ResidualBlock(nn.Module):
    """Two convolutions; the way around them is pooled and projected where the stride or the features change."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        form: ConvolutionArguments,
    ) -> None:
        super().__init__()
        ones = (1,) * len(stride)
        self.first = ConvolutionStack(1, in_channels, out_channels, kernel_size, stride, form)
        self.second = _without_activation(out_channels, out_channels, kernel_size, form)
        self.around = nn.Sequential()
        if tuple(stride) != ones:
            pool = nn.AvgPool3d if len(stride) == 3 else nn.AvgPool2d
            self.around.append(pool(tuple(stride), tuple(stride)))  # type: ignore[arg-type]
        if in_channels != out_channels:
            unbiased = form.model_copy(update={"bias": False})
            self.around.append(_without_activation(in_channels, out_channels, ones, unbiased))
        self.activation = nn.LeakyReLU(form.negative_slope, inplace=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns what two convolutions make of the features, plus the features, ``(batch, channel, *spatial)``."""
        result: torch.Tensor = self.activation(self.second(self.first(image)) + self.around(image))
        return result


class ResidualUNet(UNet):
    """A U-Net whose encoder stages are residual blocks; images and logits are those of ``UNet``.

    Source: Isensee et al. 2024, doi:10.1007/978-3-031-72114-4_47.

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Depth, width, strides and kernels; ``arguments``: blocks, decoder_convolutions, norm, bias,
            negative_slope.

    Raises:
        ConfigError: There are not as many numbers of convolutions as stages.
    """

    def __init__(self, in_channels: int, out_channels: int, architecture: Architecture) -> None:
        super().__init__(in_channels, out_channels, architecture)
        for module in self.modules():
            # Each begins as what goes around it (Goyal et al. 2017).
            if isinstance(module, ResidualBlock) and not isinstance(module.second[1], nn.Identity):
                nn.init.zeros_(module.second.get_parameter("1.weight"))

    def form(self, architecture: Architecture) -> ConvolutionArguments:
        """Returns what convolutions are followed by."""
        return arguments_of(architecture, ResidualUNetArguments)

    def encoder_stages(self, in_channels: int, architecture: Architecture) -> list[nn.Module]:
        """Returns a module of residual blocks a stage, from full resolution down.

        The first begins with a convolution.
        """
        form = arguments_of(architecture, ResidualUNetArguments)
        blocks = form.blocks
        kernels, strides, features = architecture.kernel_sizes, architecture.strides, architecture.features
        stem = ConvolutionStack(1, in_channels, features[0], kernels[0], (1,) * len(strides[0]), form)
        stages: list[nn.Module] = []
        for i, n in enumerate(features):
            stage = nn.Sequential(ResidualBlock(features[max(0, i - 1)], n, kernels[i], strides[i], form))
            ones = (1,) * len(strides[i])
            stage.extend(ResidualBlock(n, n, kernels[i], ones, form) for _ in range(1, blocks[min(i, len(blocks) - 1)]))
            stages.append(stage if i else nn.Sequential(stem, *stage))
        return stages

    def decoder_convolutions(self, architecture: Architecture) -> Sequence[int]:
        """Returns how many convolutions each stage of the decoder has, from full resolution down."""
        given, stages = (
            arguments_of(architecture, ResidualUNetArguments).decoder_convolutions,
            len(architecture.features),
        )
        several, one = ((), given) if isinstance(given, int) else (given, 1)
        return numbers_by_stage(several, stages - 1, one, "decoder_convolutions")


def _without_activation(
    in_channels: int, out_channels: int, kernel_size: Sequence[int], form: ConvolutionArguments
) -> nn.Sequential:
    convolution, norm, _ = ConvolutionStack(1, in_channels, out_channels, kernel_size, (1,) * len(kernel_size), form)
    return nn.Sequential(convolution, norm)
