"""Attention U-Net (Oktay et al. 2018): a U-Net whose skips pass additive attention gates.

A gate compares a skip with the coarser features that it will be merged with, the gating signal, on their grid: σ(ψ
ReLU(θ skip + φ gating)), where θ strides as the pooling does. Interpolated to the skip's grid, it weighs the skip. The
finest skip has no gate. With deep supervision the logits of all resolutions are interpolated to the finest and merged
by one convolution, as in the authors' code, so there is one output to the loss in any case.

With features 16, 32, 64, 128, 256 in 3D, one channel in and two outputs it has 6,406,480 parameters, the paper's
6.40 M, and 5,887,466 without the gates, its 5.88 M: two gates a skip, which the authors' code has, and no convolution
of the gating signal, which their code adds at the bottom (66,304 more). Upsampling is interpolation. (MONAI's
AttentionUnet is another network: it strides instead of pooling, up-convolves, gates at the skip's resolution by the
upsampled features, and gates the finest skip too.)
"""

from math import prod

import torch
from torch import nn
from torch.nn import functional

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.blocks import (
    CONVOLUTION,
    NormName,
    convolutions,
    initialise,
    max_pool,
    normalization,
    pointwise,
)
from medseg.networks.fitting import cropped, padded
from medseg.networks.network import Network

GATES = 2
# Gates begin open (Oktay et al. 2018): σ(3) is 0.95.
OPEN = 3.0


class AttentionUNetArguments(Arguments):
    """What ``network.arguments`` may hold for attention_unet."""

    norm: NormName = "batch"
    """After each convolution."""


class Gate(nn.Module):
    """An additive attention gate, which weighs a skip by a gating signal on a coarser grid."""

    def __init__(self, width: int, gating_width: int, stride: tuple[int, ...], norm: NormName) -> None:
        super().__init__()
        dims = len(stride)
        self.theta = CONVOLUTION[dims](width, width, stride, stride, bias=False)
        self.phi = pointwise(gating_width, width, dims)
        self.psi = pointwise(width, 1, dims)
        self.out = nn.Sequential(pointwise(width, width, dims), normalization(norm, width, dims))

    def forward(self, skip: torch.Tensor, gating: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the weighed skip, and the weights that it was multiplied by.

        Args:
            skip: Features of the encoder, ``(batch, channel, *spatial)``.
            gating: Coarser features, ``(batch, channel, *spatial)``, on a grid coarser by the stride of the gate.

        Returns:
            The weighed skip, of its own shape, and the weights, ``(batch, 1, *spatial)``, from 0 to 1.
        """
        weights = torch.sigmoid(self.psi(torch.relu(self.theta(skip) + self.phi(gating))))
        weights = interpolated(weights, skip.shape[2:])
        return self.out(weights * skip), weights


class GatedSkip(nn.Module):
    """Several gates for one skip, and the convolution that merges what they pass."""

    def __init__(self, width: int, gating_width: int, stride: tuple[int, ...], norm: NormName) -> None:
        super().__init__()
        self.gates = nn.ModuleList(Gate(width, gating_width, stride, norm) for _ in range(GATES))
        self.merge = convolutions(GATES * width, (width,), (1,) * len(stride), norm)

    def forward(self, skip: torch.Tensor, gating: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the merged skip, and the weights of all gates, ``(batch, gate, *spatial)``."""
        passed, weights = zip(*(gate(skip, gating) for gate in self.gates), strict=True)
        return self.merge(torch.cat(passed, dim=1)), torch.cat(weights, dim=1)


class AttentionUNet(Network):
    """A U-Net whose skips, but for the finest one, pass through attention gates.

    It takes images, ``(batch, channel, *spatial)``, of edges that are multiples of its strides, and returns logits,
    ``(batch, label, *spatial)``.

    Source: Oktay et al. 2018, arXiv:1804.03999.

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Depth, width, strides and kernels; ``arguments``: norm.

    Raises:
        ConfigError: There are fewer than three stages, so that no skip would have a gate.
    """

    def __init__(self, in_channels: int, out_channels: int, architecture: Architecture) -> None:
        features, strides, kernels = architecture.features, architecture.strides, architecture.kernel_sizes
        super().__init__([prod(axis) for axis in zip(*strides, strict=True)])
        n, norm = architecture.convolutions_per_stage, arguments_of(architecture, AttentionUNetArguments).norm
        if len(features) < 3:
            raise ConfigError(
                f"network.name: {architecture.name} gates every skip but the finest and needs three stages, the plan "
                f"has {len(features)}; train with a larger planning.patch_size or with another network"
            )
        self.encoder = nn.ModuleList()
        for i, width in enumerate(features):
            stage = convolutions(features[i - 1] if i else in_channels, (width,) * n, kernels[i], norm)
            self.encoder.append(nn.Sequential(max_pool(strides[i]), stage) if i else stage)
        above = range(len(features) - 2, -1, -1)  # the stages of the way up
        self.skips = nn.ModuleList(GatedSkip(features[i], features[i + 1], strides[i + 1], norm) for i in above[:-1])
        self.decoder = nn.ModuleList(
            convolutions(features[i] + features[i + 1], (features[i],) * n, kernels[i], norm) for i in above
        )
        dims, merged = len(strides[0]), architecture.deep_supervision
        self.heads = nn.ModuleList(
            pointwise(features[i], out_channels, dims) for i in (above if merged else above[-1:])
        )
        self.merge = pointwise(out_channels * len(self.heads), out_channels, dims) if merged else nn.Identity()
        self.apply(initialise)
        for module in self.modules():
            if isinstance(module, Gate):
                nn.init.constant_(module.psi.bias, OPEN)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the logits, ``(batch, label, *spatial)``, of images ``(batch, channel, *spatial)``."""
        decoded, _ = self._decode(image)
        heads = zip(self.heads, decoded[-len(self.heads) :], strict=True)
        logits = [interpolated(head(features), image.shape[2:]) for head, features in heads]
        merged: torch.Tensor = self.merge(torch.cat(logits, dim=1))
        return merged

    def attention(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Returns what each gate lets through, from 0 to 1.

        Args:
            image: ``(batch, channel, *spatial)``, of any spatial shape.

        Returns:
            Two maps a gated skip, from the finest gated skip down; each is ``(batch, 1, *spatial)`` on the grid of the
            image.
        """
        shape = tuple(image.shape[2:])
        fitting = self.fitting_shape(shape)
        _, weights = self._decode(padded(image, fitting))
        maps = [gate for skip in weights[::-1] for gate in torch.split(skip, 1, dim=1)]
        return [cropped(interpolated(gate, fitting), shape, fitting) for gate in maps]

    def _decode(self, image: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Returns the features of each decoder stage and the weights of its gates, from the coarsest up."""
        encoded = []
        for stage in self.encoder:
            image = self.run(stage, image)
            encoded.append(image)
        encoded.pop()
        decoded, weights = [], []
        for i, stage in enumerate(self.decoder):
            skip = encoded.pop()
            if i < len(self.skips):
                gated, gate_weights = self.run(self.skips[i], skip, image)
                weights.append(gate_weights)
            else:
                gated = skip
            image = self.run(stage, torch.cat((gated, interpolated(image, skip.shape[2:])), dim=1))
            decoded.append(image)
        return decoded, weights


def interpolated(features: torch.Tensor, shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
    """Returns the features, linearly interpolated to the given spatial shape."""
    if features.shape[2:] == shape:
        return features
    return functional.interpolate(features, size=tuple(shape), mode="trilinear" if len(shape) == 3 else "bilinear")
