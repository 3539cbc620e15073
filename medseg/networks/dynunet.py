"""MONAI's DynUNet with the strides, kernels and features of the plan.

It is the U-Net that nnU-Net plans, as MONAI has it. Two things differ from ``DynUNet.forward``. Heads of deep
supervision stay at their resolution; MONAI interpolates them to full size, where the loss of each costs as much as that
of the finest one. And each weight has one name; MONAI's second tree of the same modules gives it two, which safetensors
cannot hold. The logits of the finest head are the same.
"""

from math import prod
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.network import Network


class DynUNetArguments(Arguments):
    """What ``network.arguments`` may hold for dynunet."""

    norm: Literal["instance", "batch"] = "instance"
    """After each convolution."""
    residual: bool = False
    """Blocks with a way around them."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """After each convolution. None: there is none."""


class DynUNet(Network):
    """MONAI's DynUNet, as deep and wide as the plan.

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Its strides, kernel sizes, features and deep supervision are those of the network.

    Raises:
        ConfigError: The plan has fewer than three stages, which MONAI's class needs.
    """

    def __init__(self, in_channels: int, out_channels: int, architecture: Architecture) -> None:
        from monai.networks.nets import DynUNet as MonaiDynUNet  # takes seconds, for this network alone

        features, strides, kernels = architecture.features, architecture.strides, architecture.kernel_sizes
        super().__init__([prod(axis) for axis in zip(*strides, strict=True)])
        arguments = arguments_of(architecture, DynUNetArguments)
        if len(features) < 3:
            raise ConfigError(
                f"network.name: {architecture.name} needs three stages, the plan has {len(features)}; train with a "
                "larger planning.patch_size or with another network"
            )
        self.deep_supervision = architecture.deep_supervision
        self.network = MonaiDynUNet(
            spatial_dims=len(strides[0]),
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=features,
            norm_name=(arguments.norm, {"affine": True}),
            dropout=arguments.dropout,
            deep_supervision=self.deep_supervision,
            deep_supr_num=max(1, len(features) - 2),
            res_block=arguments.residual,
        )
        del self.network.skip_layers  # the same modules once more

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Returns the logits, ``(batch, label, *spatial)``; in training with deep supervision a list of them.

        The list goes from the finest down.
        """
        parts = self.network
        skips = []
        for stage in (parts.input_block, *parts.downsamples):
            image = self.run(stage, image)
            skips.append(image)
        image = self.run(parts.bottleneck, image)
        decoded = []  # from the coarsest up
        for up in parts.upsamples:
            image = self.run(up, image, skips.pop())
            decoded.append(image)
        logits: torch.Tensor = parts.output_block(image)
        if not (self.training and self.deep_supervision):
            return logits
        coarser: list[nn.Module] = list(parts.deep_supervision_heads)
        return [logits, *(head(features) for head, features in zip(coarser, decoded[-2::-1], strict=True))]
