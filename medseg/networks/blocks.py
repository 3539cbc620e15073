"""Parts that the U-Nets of the literature share."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import nn

NormName = Literal["none", "batch", "instance"]


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
        convolution = Conv["conv", dims](before, after, tuple(kernel_size), padding=padding)
        layers += [convolution, normalization(norm, after, dims), nn.ReLU(inplace=True)]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def normalization(norm: NormName, width: int, dims: int) -> nn.Module:
    """Returns the layer of a normalization by its name, for ``width`` features of ``dims`` axes."""
    layer: nn.Module = nn.Identity() if norm == "none" else Norm[norm, dims](width, affine=True)
    return layer


def max_pool(stride: Sequence[int]) -> nn.Module:
    """Returns max pooling whose windows are as large as its stride."""
    pool: nn.Module = Pool["max", len(stride)](tuple(stride), tuple(stride))
    return pool


def up_convolution(in_channels: int, out_channels: int, stride: Sequence[int], bias: bool = True) -> nn.Module:
    """Returns a transposed convolution whose kernel is its stride: each voxel becomes ``stride`` voxels of its own."""
    up: nn.Module = Conv["convtrans", len(stride)](in_channels, out_channels, tuple(stride), tuple(stride), bias=bias)
    return up


def pointwise(in_channels: int, out_channels: int, dims: int) -> nn.Module:
    """Returns a convolution of one voxel, such as the one from features to logits."""
    convolution: nn.Module = Conv["conv", dims](in_channels, out_channels, 1)
    return convolution


def centre(features: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Returns the middle of the spatial axes, of the given shape."""
    starts = [(n - m) // 2 for n, m in zip(features.shape[2:], shape, strict=True)]
    return features[(slice(None), slice(None), *(slice(s, s + m) for s, m in zip(starts, shape, strict=True)))]


def initialise(module: nn.Module) -> None:
    """Draws Gaussian weights of deviation √(2/N), where N is how many numbers one output is the sum of.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    if not isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return
    terms = module.in_channels * prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
        terms //= prod(module.stride)
    nn.init.normal_(module.weight, std=(2 / terms) ** 0.5)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
