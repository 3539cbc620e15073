"""U-Net as published (Ronneberger et al. 2015), and its padded form with normalization.

With the published features 64, 128, 256, 512, 1024, one channel in and two outputs it has the 31,030,658 parameters of
the paper's figure, and makes logits of 388×388 from 572×572 pixels. The 3D form is the same definition with 3D
convolutions. Dropout stands at the end of the contracting path, in its two deepest stages, as in the authors' release.
(MONAI's UNet is another network, of strided residual units; its BasicUNet is padded, halves its features elsewhere,
and has normalization.)
"""

from pydantic import Field

from medseg.architecture import Architecture
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.blocks import NormName
from medseg.networks.classic_unet import ClassicUNet, Form


class UNet2015Arguments(Arguments):
    """What ``network.arguments`` may hold for unet_2015."""

    dropout: float = Field(0.5, ge=0, lt=1)
    """At the end of the contracting path."""


class PaddedUNet2015Arguments(Arguments):
    """What ``network.arguments`` may hold for padded_unet_2015."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """At the end of the contracting path."""
    norm: NormName = "batch"
    """After each convolution."""


def unet_2015(in_channels: int, out_channels: int, architecture: Architecture) -> ClassicUNet:
    """Returns the U-Net of 2015 with valid convolutions and without normalization, as in the paper."""
    arguments = arguments_of(architecture, UNet2015Arguments)
    return _unet(in_channels, out_channels, architecture, "none", False, arguments.dropout)


def padded_unet_2015(in_channels: int, out_channels: int, architecture: Architecture) -> ClassicUNet:
    """Returns the U-Net of 2015 with logits as large as the image, and with batch normalization by default.

    This is the form that most code calls U-Net today.
    """
    arguments = arguments_of(architecture, PaddedUNet2015Arguments)
    return _unet(in_channels, out_channels, architecture, arguments.norm, True, arguments.dropout)


def _unet(
    in_channels: int, out_channels: int, architecture: Architecture, norm: NormName, padded: bool, dropout: float
) -> ClassicUNet:
    features, n = architecture.features, architecture.convolutions_per_stage
    form = Form(
        encoder_widths=[(width,) * n for width in features],
        up_widths=features[:-1],
        up_bias=True,
        norm=norm,
        padded=padded,
        dropout=dropout,
    )
    return ClassicUNet(in_channels, out_channels, architecture, form)
