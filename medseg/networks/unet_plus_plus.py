"""U-Net++ (Zhou et al. 2018): skips of nested, dense convolutions, four heads, and pruning.

Node X(i,j) is at resolution i; it convolves all nodes before it at its resolution, X(i,0) to X(i,j-1), and the
up-convolved X(i+1,j-1). X(i,0) are the encoder; head j answers from X(0,j), at full resolution, and needs nodes of
i + j up to its own number only.

With features 32, 64, 128, 256, 512 in 2D, one channel in and one output, it has 9,041,601 parameters, the paper's
9.04 M: convolutions of 3×3 with bias, 2×2 up-convolutions with bias, head 4 alone, no normalization. Three further
heads are 99 more. (MONAI's BasicUNetPlusPlus has another width at full resolution, normalization, and five stages
whatever the plan says, and computes all heads always. The authors' code also drops half of the features after each
convolution; the paper doesn't, and neither does this.)
"""

from math import prod

import torch
from pydantic import Field
from torch import nn

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.blocks import NormName, convolutions, initialise, max_pool, pointwise, up_convolution
from medseg.networks.network import Network


class UNetPlusPlusArguments(Arguments):
    """What ``network.arguments`` may hold for unet_plus_plus."""

    norm: NormName = "none"
    """After each convolution."""
    head: int | None = Field(None, ge=1)
    """Prediction answers with this head, from 1, and computes only what it needs. None: with the mean of all."""


class UNetPlusPlus(Network):
    """A U-Net of nested, dense skips.

    It takes images, ``(batch, channel, *spatial)``, of edges that are multiples of its strides, and returns logits,
    ``(batch, label, *spatial)``. While it trains with deep supervision it returns a list of those of all heads, the
    last head first, all at full resolution.

    Source: Zhou et al. 2018, doi:10.1007/978-3-030-00889-5_1.

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Depth, width, strides and kernels; ``arguments``: norm, head.

    Raises:
        ConfigError: There is no such head.
    """

    def __init__(self, in_channels: int, out_channels: int, architecture: Architecture) -> None:
        features, strides, kernels = architecture.features, architecture.strides, architecture.kernel_sizes
        super().__init__([prod(axis) for axis in zip(*strides, strict=True)])
        arguments = arguments_of(architecture, UNetPlusPlusArguments)
        n, dims, self.depth = architecture.convolutions_per_stage, len(strides[0]), len(features) - 1
        self.deep_supervision = architecture.deep_supervision and self.depth > 0
        self.encoder = nn.ModuleList()
        for i, width in enumerate(features):
            stage = convolutions(features[i - 1] if i else in_channels, (width,) * n, kernels[i], arguments.norm)
            self.encoder.append(nn.Sequential(max_pool(strides[i]), stage) if i else stage)
        # The node X(i,j) is number j - 1 of row i.
        self.up, self.nodes = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(features[:-1]):
            columns = range(1, len(features) - i)
            self.up.append(nn.ModuleList(up_convolution(features[i + 1], width, strides[i + 1]) for _ in columns))
            self.nodes.append(
                nn.ModuleList(convolutions((j + 1) * width, (width,) * n, kernels[i], arguments.norm) for j in columns)
            )
        self.heads = nn.ModuleDict({str(j): pointwise(features[0], out_channels, dims) for j in self._trained()})
        self.head = self._checked(arguments.head)
        self.apply(initialise)

    @property
    def head_weights(self) -> tuple[float, ...] | None:
        """The weights of the heads in the loss: all are equal; None without deep supervision."""
        return (1.0,) * self.depth if self.deep_supervision else None

    def _trained(self) -> list[int]:
        """Returns the heads that there are, the last one first."""
        return list(range(self.depth, 0, -1)) if self.deep_supervision else [self.depth]

    def _checked(self, head: int | None) -> int | None:
        heads = self._trained()
        if head is not None and head not in heads:
            there_are = ", ".join(str(j) for j in sorted(heads))
            hint = "" if self.deep_supervision else "; with network.deep_supervision there are more"
            raise ConfigError(f"network.arguments.head cannot be {head}: there is head {there_are}{hint}")
        return head

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Returns the logits, ``(batch, label, *spatial)``; in training with deep supervision a list of them.

        The list begins with the deepest head.
        """
        heads = [self.head] if self.head is not None and not self.training else self._trained()
        nodes = self._nodes(image, heads[0])
        logits = [self.heads[str(j)](nodes[j]) for j in heads]
        if self.training and self.deep_supervision:
            return logits
        return torch.stack(logits).mean(dim=0) if len(logits) > 1 else logits[0]

    def _nodes(self, image: torch.Tensor, last: int) -> list[torch.Tensor]:
        """Returns the nodes X(0,0) to X(0,last)."""
        rows: list[list[torch.Tensor]] = []
        for depth in range(last + 1):
            image = self.run(self.encoder[depth], image)
            rows.append([image])
            for i in range(depth - 1, -1, -1):
                j = depth - i
                raised = self.up[i][j - 1](rows[i + 1][j - 1])  # type: ignore[index]
                rows[i].append(self.run(self.nodes[i][j - 1], torch.cat((*rows[i], raised), dim=1)))  # type: ignore[index]
        return rows[0]
