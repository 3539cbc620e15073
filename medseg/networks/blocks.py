"""Parts that the U-Nets of the literature share."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import nn

NormName = Literal["none", "batch", "instance"]

# PyTorch's layers by the number of spatial axes.
Layers = dict[int, Callable[..., nn.Module]]
CONVOLUTION: Layers = {2: nn.Conv2d, 3: nn.Conv3d}
UP_CONVOLUTION: Layers = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL: Layers = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
NORMALIZATION: dict[NormName, Layers] = {
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
}


def convolutions(
    in_channels: int,
    widths: Sequence[int],
    kernel_size: Sequence[int],
    norm: NormName,
    padded: bool = True,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Returns a convolution with bias, a norm and a ReLU for each of ``widths``, and dropout at the end.

    Args:
        in_channels: Channels of the input.
        widths: Numbers of features, one for each convolution.
        kernel_size: Edges of the kernels in voxels; as many as the image has axes.
        norm: The normalization after each convolution.
        padded: Whether the output is as large as the input.
        dropout: The probability with which a feature is set to 0; 0: there is no dropout.
    """
    dims = len(kernel_size)
    padding = tuple(k // 2 for k in kernel_size) if padded else 0
    layers: list[nn.Module] = []
    for before, after in pairwise((in_channels, *widths)):
        convolution = CONVOLUTION[dims](before, after, tuple(kernel_size), padding=padding)
        layers += [convolution, normalization(norm, after, dims), nn.ReLU(inplace=True)]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def normalization(norm: NormName, width: int, dims: int) -> nn.Module:
    """Returns the layer of a normalization by its name, for ``width`` features of ``dims`` axes."""
    return nn.Identity() if norm == "none" else NORMALIZATION[norm][dims](width, affine=True)


def max_pool(stride: Sequence[int]) -> nn.Module:
    """Returns max pooling whose windows are as large as its stride."""
    return MAX_POOL[len(stride)](tuple(stride), tuple(stride))


def up_convolution(in_channels: int, out_channels: int, stride: Sequence[int], bias: bool = True) -> nn.Module:
    """Returns a transposed convolution whose kernel is its stride: each voxel becomes ``stride`` voxels of its own."""
    return UP_CONVOLUTION[len(stride)](in_channels, out_channels, tuple(stride), tuple(stride), bias=bias)


def pointwise(in_channels: int, out_channels: int, dims: int) -> nn.Module:
    """Returns a convolution of one voxel, such as the one from features to logits."""
    return CONVOLUTION[dims](in_channels, out_channels, 1)


def centre(features: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Returns the middle of the spatial axes, of the given shape."""
    starts = [(n - m) // 2 for n, m in zip(features.shape[2:], shape, strict=True)]
    return features[(slice(None), slice(None), *(slice(s, s + m) for s, m in zip(starts, shape, strict=True)))]


def initialise(module: nn.Module) -> None:
    """Draws Gaussian weights of deviation √(2/N), where N is how many numbers one output is the sum of.

    Weights without memory (device "meta") stay as they are.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    kinds = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
    if not isinstance(module, kinds) or module.weight.is_meta:  # drawing there imports all of torch._dynamo
        return
    terms = module.in_channels * prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
        terms //= prod(module.stride)
    nn.init.normal_(module.weight, std=(2 / terms) ** 0.5)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
