"""The U-Net of max pooling and up-convolutions, which the papers of 2015 and 2016 make wider in different places."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from medseg.architecture import Architecture
from medseg.networks.blocks import NormName, centre, convolutions, initialise, max_pool, pointwise, up_convolution
from medseg.networks.network import Network


@dataclass(frozen=True)
class Form:
    """What the papers do differently.

    Widths are numbers of features; a list has one entry a stage, from full resolution down.
    """

    encoder_widths: Sequence[Sequence[int]]  # of each convolution
    up_widths: Sequence[int]  # of the up-convolution that leads to the stage
    up_bias: bool
    norm: NormName
    padded: bool
    dropout: float  # part of the features dropped at the end of the two deepest stages


class ClassicUNet(Network):
    """Stages of convolutions; max pooling on the way down, up-convolutions and skips on the way up.

    Where the convolutions aren't padded, the logits are those of the centre, ``margin`` voxels from each side, and
    skips are cropped to their middle. Deep supervision is not part of these networks.

    Source: Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28; Çiçek et al. 2016,
    doi:10.1007/978-3-319-46723-8_49.

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Depth, width, strides and kernels; it has no arguments.
        form: What the papers do differently.
    """

    def __init__(self, in_channels: int, out_channels: int, architecture: Architecture, form: Form) -> None:
        features, strides, kernels = architecture.features, architecture.strides, architecture.kernel_sizes
        super().__init__([prod(axis) for axis in zip(*strides, strict=True)])
        n, norm, padded = architecture.convolutions_per_stage, form.norm, form.padded
        self.lost_on_the_way_down = (0,) * len(strides[0])
        if not padded:
            self._lose_borders(architecture)
        self.encoder = nn.ModuleList()
        for i, widths in enumerate(form.encoder_widths):
            dropout = form.dropout if i >= len(features) - 2 else 0.0
            stage = convolutions(features[i - 1] if i else in_channels, widths, kernels[i], norm, padded, dropout)
            self.encoder.append(nn.Sequential(max_pool(strides[i]), stage) if i else stage)
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for i in range(len(features) - 2, -1, -1):
            self.up.append(up_convolution(features[i + 1], form.up_widths[i], strides[i + 1], form.up_bias))
            merged = features[i] + form.up_widths[i]
            self.decoder.append(convolutions(merged, (features[i],) * n, kernels[i], norm, padded))
        self.head = pointwise(features[0], out_channels, len(strides[0]))
        self.apply(initialise)

    def _lose_borders(self, architecture: Architecture) -> None:
        """Counts the voxels that valid convolutions take: each takes ``kernel - 1`` of its own resolution."""
        down, margin = [], []
        for strides, kernels in zip(
            zip(*architecture.strides, strict=True), zip(*architecture.kernel_sizes, strict=True), strict=True
        ):
            sizes = [prod(strides[: i + 1]) for i in range(len(strides))]  # of a voxel of the stage
            lost = [
                architecture.convolutions_per_stage * (k - 1) * size for k, size in zip(kernels, sizes, strict=True)
            ]
            down.append(sum(lost))
            margin.append((sum(lost) + sum(lost[:-1])) // 2)
        self.lost_on_the_way_down, self.margin = tuple(down), tuple(margin)

    def fitting_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the smallest shape, at least as large, that ``forward`` takes.

        Each pooling gets a multiple of its stride, and a voxel of logits is left at least.
        """
        if not any(self.margin):
            return super().fitting_shape(shape)
        fitting = []
        for n, multiple, lost, margin in zip(
            shape, self.multiple_of, self.lost_on_the_way_down, self.margin, strict=True
        ):
            least = max(n, 2 * margin + 1) - lost
            fitting.append(lost + -(-least // multiple) * multiple)
        return tuple(fitting)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the logits, ``(batch, label, *spatial)``, of images ``(batch, channel, *spatial)``.

        Where the convolutions aren't padded, each edge of the logits is shorter by twice the ``margin``.
        """
        skips = []
        for stage in self.encoder:
            image = self.run(stage, image)
            skips.append(image)
        skips.pop()
        for up, stage in zip(self.up, self.decoder, strict=True):
            image = up(image)
            image = self.run(stage, torch.cat((centre(skips.pop(), image.shape[2:]), image), dim=1))
        logits: torch.Tensor = self.head(image)
        return logits
