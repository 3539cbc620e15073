"""TransUNet: a ResNet, a vision transformer and a cascade of upsamplings."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn
from torch.nn import functional

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.blocks import CONVOLUTION, MAX_POOL, NORMALIZATION
from medseg.networks.network import Network

PUBLISHED_WIDTH = 64
HEAD_SIZE = 64
LAST_FEATURES = 16  # at full resolution
# A planned patch has 4 to 8 voxels an axis at the lowest resolution. Training takes the number that its patch has.
EDGE_AT_THE_BOTTOM = 6


class TransUNetArguments(Arguments):
    """What ``network.arguments`` may hold for transunet."""

    size: Literal["planned", "full"] = "planned"
    """full: as published, a ResNet of width 64. planned: of the plan's first number of features."""
    resnet_width: PositiveInt | None = None
    """Whatever the size is."""
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 4, 9)
    """Of the ResNet's stages."""
    hidden_size: PositiveInt | None = None
    """Features of a token. None: 12 times the ResNet's width."""
    layers: PositiveInt = 12
    """Of the transformer."""
    heads: PositiveInt | None = None
    """Of each layer. None: heads of 64 features, or a little more."""
    mlp_size: PositiveInt | None = None
    """None: 4 times the hidden size."""
    decoder_features: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] | None = None
    """From the lowest resolution up. None: 4, 2 and 1 times the ResNet's width, and 16."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of the tokens and of the MLP."""
    token_grid: tuple[PositiveInt, ...] | None = None
    """Tokens an axis that have a position of their own; it is interpolated for all others. None: those of a patch."""


@dataclass(frozen=True)
class Sizes:
    """Widths of the parts: of the ResNet, the tokens, the heads, the layers between, and the decoder's stages."""

    width: int
    hidden: int
    heads: int
    mlp: int
    decoder: tuple[int, ...]  # from the lowest resolution up


class TransUNet(Network):
    """A ResNet whose last features are the tokens of a vision transformer, then a cascade of upsamplings.

    The ResNet's features are the skips. In 2D it is as published, and in 3D by the same definition. One grey channel is
    repeated thrice in 2D, for the sake of weights that were trained on photographs.

    The ResNet is the "R50" of the authors' code: convolutions of standardised weights with group norm, and three stages
    after the root, so that there are four strides, published as 2 each. Here they are the plan's first four, 1 where it
    has fewer: a patch of 40×56×40 with strides of 8 has 5×7×5 tokens, where strides of 16 would leave 3×4×3, a fifth of
    it padding. Kernels are flat where the plan's are.

    All sizes go with the ResNet's width w: hidden 12w, MLP 48w, heads of 64, decoder 4w, 2w, w and 16. Published is w =
    64 (``size: full``): 105,277,081 parameters for nine outputs at 224×224, as in the authors' code, and with its
    weights the same logits, but for the last row and column, which its pooling loses. Otherwise w is the plan's first
    number of features: 32 makes the transformer a ViT-S (26 M parameters in 2D, 33 M in 3D); 16, which is planned on a
    processor, a ViT-Ti (7 M and 8 M).

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Strides, kernels and features; ``arguments``: sizes.

    Source: Chen et al. 2021, arXiv:2102.04306.
    """

    def __init__(self, in_channels: int, out_channels: int, architecture: Architecture) -> None:
        arguments = arguments_of(architecture, TransUNetArguments)
        sizes = _sizes(arguments, architecture)
        dims = len(architecture.strides[0])
        strides = [*architecture.strides[1:5], *((1,) * dims,) * 4][:4]
        super().__init__([prod(axis) for axis in zip(*strides, strict=True)])
        self.repeats = 3 if in_channels == 1 and dims == 2 else 1
        kernels = [*architecture.kernel_sizes, *architecture.kernel_sizes[-1:] * 4][:5]
        self.resnet = ResNet(in_channels * self.repeats, sizes.width, arguments.blocks, strides, kernels)
        self.embedding = CONVOLUTION[dims](16 * sizes.width, sizes.hidden, 1)
        self.token_grid_is_open = arguments.token_grid is None
        grid = arguments.token_grid or _token_grid(architecture, self.multiple_of)
        if len(grid) != dims:
            raise ConfigError(f"network.arguments.token_grid has {len(grid)} numbers; give {dims} for {dims}D")
        self.positions = nn.Parameter(torch.zeros(1, sizes.hidden, *grid))
        self.dropout = nn.Dropout(arguments.dropout)
        self.transformer = nn.ModuleList(_layer(sizes, arguments.dropout) for _ in range(arguments.layers))
        self.norm = nn.LayerNorm(sizes.hidden, eps=1e-6)
        w = sizes.width
        self.decoder_input = ConvolutionNormReLU(sizes.hidden, 8 * w, kernels[4])
        before = (8 * w, *sizes.decoder)
        self.decoder = nn.ModuleList(
            nn.Sequential(
                ConvolutionNormReLU(before[i] + skip, features, kernel), ConvolutionNormReLU(features, features, kernel)
            )
            for i, (features, skip, kernel) in enumerate(
                zip(sizes.decoder, (8 * w, 4 * w, w, 0), kernels[3::-1], strict=True)
            )
        )
        self.head = CONVOLUTION[dims](sizes.decoder[-1], out_channels, kernels[0], padding=_padding(kernels[0]))

    def arguments_for(self, shape: Sequence[int]) -> dict[str, Any]:
        """Returns the grid of tokens of a patch, where the user left it open."""
        if not self.token_grid_is_open:
            return {}
        return {"token_grid": [n // size for n, size in zip(shape, self.multiple_of, strict=True)]}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the logits, ``(batch, label, *spatial)``, of images ``(batch, channel, *spatial)``."""
        skips: list[torch.Tensor | None] = [None]  # there is none at full resolution
        features = image.repeat(1, self.repeats, *(1,) * len(self.multiple_of)) if self.repeats > 1 else image
        for stage in self.resnet.children():
            for block in stage.children():
                features = self.run(block, features)
            skips.append(features)
        skips.pop()
        features = self._attend(self.embedding(features))
        features = self.run(self.decoder_input, features)
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            features = _resized(features, (image if skip is None else skip).shape[2:], align_corners=True)
            features = self.run(stage, features if skip is None else torch.cat((features, skip), dim=1))
        logits: torch.Tensor = self.head(features)
        return logits

    def _attend(self, features: torch.Tensor) -> torch.Tensor:
        """Runs the transformer over all voxels of ``features``, ``(batch, hidden, *grid)``."""
        grid = features.shape[2:]
        features = features + _resized(self.positions, grid, align_corners=False)
        tokens = self.dropout(features.flatten(2).transpose(1, 2))
        for layer in self.transformer:
            tokens = self.run(layer, tokens)
        attended: torch.Tensor = self.norm(tokens).transpose(1, 2).reshape(features.shape)
        return attended


class ResNet(nn.Sequential):
    """Root, pooling with the first stage, and two stages more: w, 4w, 8w and 16w features."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        blocks: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
    ) -> None:
        dims = len(strides[0])
        ones = (1,) * dims
        wide = tuple(7 if k > 1 else 1 for k in kernels[0])
        root = nn.Sequential(
            _convolution(in_channels, width, wide, strides[0]), _group_norm(width), nn.ReLU(inplace=True)
        )
        window = tuple(3 if s > 1 else 1 for s in strides[1])
        # ceil_mode: windows begin at the first voxel, and the last one may reach over the end, as in Google's code.
        stages = [nn.Sequential(root), nn.Sequential(MAX_POOL[dims](window, tuple(strides[1]), ceil_mode=True))]
        stages += [nn.Sequential(), nn.Sequential()]
        before = width
        for i, n in enumerate(blocks, start=1):
            for j in range(n):
                stride = strides[i] if i > 1 and j == 0 else ones
                stages[i].append(Bottleneck(before, 2 * width * 2**i, kernels[i + 1], stride))
                before = 2 * width * 2**i
        super().__init__(*stages)


class Bottleneck(nn.Module):
    """Three convolutions, the second with kernel and stride; the way around is projected where it has to be."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        middle, ones = out_channels // 4, (1,) * len(stride)
        self.convolutions = nn.ModuleList(
            [
                _convolution(in_channels, middle, ones, ones),
                _convolution(middle, middle, kernel_size, stride),
                _convolution(middle, out_channels, ones, ones),
            ]
        )
        self.norms = nn.ModuleList([_group_norm(middle), _group_norm(middle), _group_norm(out_channels)])
        self.projection = nn.Sequential()
        if in_channels != out_channels or tuple(stride) != ones:
            self.projection.extend(
                (_convolution(in_channels, out_channels, ones, stride), nn.GroupNorm(out_channels, out_channels))
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns what three convolutions make of the features, plus the projected features."""
        around = self.projection(image)
        for convolution, norm in zip(self.convolutions[:2], self.norms[:2], strict=True):
            image = functional.relu(norm(convolution(image)), inplace=True)
        return functional.relu(around + self.norms[2](self.convolutions[2](image)), inplace=True)


class _Standardised:
    """Weights of mean 0 and variance 1 an output (Qiao et al. 2019, arXiv:1903.10520)."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        axes = tuple(range(1, self.weight.ndim))
        variance, mean = torch.var_mean(self.weight, dim=axes, keepdim=True, correction=0)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-5)
        result: torch.Tensor = self._conv_forward(image, weight, self.bias)  # type: ignore[attr-defined]
        return result


class StandardisedConv2d(_Standardised, nn.Conv2d):
    """A 2D convolution whose weights are standardised at each call."""


class StandardisedConv3d(_Standardised, nn.Conv3d):
    """A 3D convolution whose weights are standardised at each call."""


class ConvolutionNormReLU(nn.Sequential):
    """A convolution without bias, batch normalization and a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int]) -> None:
        dims = len(kernel_size)
        padding = _padding(kernel_size)
        convolution = CONVOLUTION[dims](in_channels, out_channels, tuple(kernel_size), padding=padding, bias=False)
        super().__init__(convolution, NORMALIZATION["batch"][dims](out_channels), nn.ReLU(inplace=True))


def _convolution(in_channels: int, out_channels: int, kernel_size: Sequence[int], stride: Sequence[int]) -> nn.Module:
    kind = StandardisedConv3d if len(stride) == 3 else StandardisedConv2d
    sizes: tuple[Any, Any, Any] = tuple(kernel_size), tuple(stride), _padding(kernel_size)  # two or three numbers each
    return kind(in_channels, out_channels, *sizes, bias=False)


def _group_norm(features: int) -> nn.GroupNorm:
    return nn.GroupNorm(gcd(32, features), features, eps=1e-6)


def _padding(kernel_size: Sequence[int]) -> tuple[int, ...]:
    return tuple(k // 2 for k in kernel_size)


def _layer(sizes: Sizes, dropout: float) -> nn.TransformerEncoderLayer:
    """Returns a layer of ViT. The authors drop nothing of the attention."""
    layer = nn.TransformerEncoderLayer(
        *(sizes.hidden, sizes.heads, sizes.mlp, dropout),
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )
    layer.self_attn.dropout = layer.dropout1.p = 0.0
    for linear in (layer.linear1, layer.linear2):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    return layer


def _sizes(arguments: TransUNetArguments, architecture: Architecture) -> Sizes:
    width = arguments.resnet_width or (PUBLISHED_WIDTH if arguments.size == "full" else architecture.features[0])
    hidden = arguments.hidden_size or 12 * width
    fitting = [n for n in range(1, max(1, hidden // HEAD_SIZE) + 1) if hidden % n == 0]
    if arguments.heads and hidden % arguments.heads:
        raise ConfigError(
            f"network.arguments.heads cannot be {arguments.heads}: {hidden} hidden features don't divide among them; "
            f"take {fitting[-1]}"
        )
    return Sizes(
        width=width,
        hidden=hidden,
        heads=arguments.heads or fitting[-1],
        mlp=arguments.mlp_size or 4 * hidden,
        decoder=arguments.decoder_features or (4 * width, 2 * width, width, LAST_FEATURES),
    )


def _token_grid(architecture: Architecture, token: Sequence[int]) -> tuple[int, ...]:
    lowest = [prod(axis) for axis in zip(*architecture.strides, strict=True)]
    return tuple(EDGE_AT_THE_BOTTOM * low // t for low, t in zip(lowest, token, strict=True))


def _resized(features: torch.Tensor, shape: Sequence[int], align_corners: bool) -> torch.Tensor:
    """Returns the features, linearly interpolated where the shape is another."""
    if tuple(features.shape[2:]) == tuple(shape):
        return features
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return functional.interpolate(features, tuple(shape), mode=mode, align_corners=align_corners)
