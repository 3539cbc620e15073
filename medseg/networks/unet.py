"""The U-Net that nnU-Net plans (Isensee et al. 2021; "PlainConvUNet"), in 2D and 3D from one definition.

Each stage is a stack of convolution, instance norm and leaky ReLU; the first convolution of a stage strides; the way
up is a transposed convolution, concatenation and the same stack. With deep supervision there is a head at every
resolution of the decoder. (MONAI's DynUNet is close, but it interpolates the deep outputs to full size, where the
loss then costs as much as at the finest resolution.)
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import nn

from medseg.networks.network import Network
from medseg.plan import Architecture

NEGATIVE_SLOPE = 0.01


class ConvolutionStack(nn.Sequential):
    """Several times convolution, instance norm, leaky ReLU; the first one has the stride."""

    def __init__(
        self, n: int, in_channels: int, out_channels: int, kernel_size: Sequence[int], stride: Sequence[int]
    ) -> None:
        dims = len(kernel_size)
        convolution = nn.Conv3d if dims == 3 else nn.Conv2d
        norm = nn.InstanceNorm3d if dims == 3 else nn.InstanceNorm2d
        padding = tuple(k // 2 for k in kernel_size)
        layers: list[nn.Module] = []
        for i in range(n):
            layers += [
                convolution(
                    in_channels if i == 0 else out_channels,
                    out_channels,
                    tuple(kernel_size),  # type: ignore[arg-type]
                    tuple(stride) if i == 0 else 1,  # type: ignore[arg-type]
                    padding,  # type: ignore[arg-type]
                ),
                norm(out_channels, eps=1e-5, affine=True),
                nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
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
        architecture: Depth, width, strides and kernels; it has no arguments.

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
        n = self.decoder_convolutions(architecture)
        self.deep_supervision = architecture.deep_supervision
        self.encoder = nn.ModuleList(self.encoder_stages(in_channels, architecture))
        transposed = nn.ConvTranspose3d if len(strides[0]) == 3 else nn.ConvTranspose2d
        ones = (1,) * len(strides[0])
        below = range(len(features) - 1, 0, -1)  # from the bottleneck up
        self.up = nn.ModuleList(
            transposed(features[i], features[i - 1], strides[i], strides[i])  # type: ignore[arg-type]
            for i in below
        )
        self.decoder = nn.ModuleList(
            ConvolutionStack(n, 2 * features[i - 1], features[i - 1], kernels[i - 1], ones) for i in below
        )
        # A head a resolution where they are trained; else, and without a way up, only the last one has a use.
        head = nn.Conv3d if len(strides[0]) == 3 else nn.Conv2d
        with_head = below if self.deep_supervision and below else [1]
        self.heads = nn.ModuleList(head(features[i - 1], out_channels, 1) for i in with_head)
        self.apply(initialise_unet)

    def encoder_stages(self, in_channels: int, architecture: Architecture) -> list[nn.Module]:
        """Returns one module a stage, from full resolution down."""
        before = (in_channels, *architecture.features)
        return [
            ConvolutionStack(architecture.convolutions_per_stage, before[i], n, kernel, stride)
            for i, (n, kernel, stride) in enumerate(
                zip(architecture.features, architecture.kernel_sizes, architecture.strides, strict=True)
            )
        ]

    def decoder_convolutions(self, architecture: Architecture) -> int:
        """Returns how many convolutions each stage of the decoder has."""
        return architecture.convolutions_per_stage

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Returns the logits, ``(batch, label, *spatial)``; in training with deep supervision a list of them.

        The list goes from the finest down.
        """
        skips = []
        for stage in self.encoder:
            image = self.run(stage, image)
            skips.append(image)
        skips.pop()
        decoded = []
        for up, stage in zip(self.up, self.decoder, strict=True):
            image = self.run(stage, torch.cat((up(image), skips.pop()), dim=1))
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
