"""3D U-Net as published (Çiçek et al. 2016), and its padded form.

Features double before each max pooling, not after it, up-convolutions keep their number, and batch norm comes before
each ReLU. With features 64, 128, 256, 512, three channels in and three outputs it has the 19,069,955 parameters of the
paper, which counts no batch norm (4,672 more), and makes logits of 44×44×28 from 132×132×116 voxels. The 2D form is the
same definition with 2D convolutions.
"""

from medseg.architecture import Architecture
from medseg.networks.arguments import Arguments, arguments_of
from medseg.networks.blocks import NormName
from medseg.networks.classic_unet import ClassicUNet, Form


class UNet3D2016Arguments(Arguments):
    """What ``network.arguments`` may hold for unet_3d_2016."""

    norm: NormName = "batch"
    """Before each ReLU."""


def unet_3d_2016(in_channels: int, out_channels: int, architecture: Architecture) -> ClassicUNet:
    """Returns the 3D U-Net of 2016 with valid convolutions, as in the paper."""
    return _unet(in_channels, out_channels, architecture, padded=False)


def padded_unet_3d_2016(in_channels: int, out_channels: int, architecture: Architecture) -> ClassicUNet:
    """Returns the 3D U-Net of 2016 with logits as large as the image."""
    return _unet(in_channels, out_channels, architecture, padded=True)


def _unet(in_channels: int, out_channels: int, architecture: Architecture, padded: bool) -> ClassicUNet:
    arguments = arguments_of(architecture, UNet3D2016Arguments)
    features, n = architecture.features, architecture.convolutions_per_stage
    form = Form(
        encoder_widths=[(width // 2, *(width,) * (n - 1)) if n > 1 else (width,) for width in features],
        up_widths=features[1:],
        up_bias=False,
        norm=arguments.norm,
        padded=padded,
        dropout=0.0,
    )
    return ClassicUNet(in_channels, out_channels, architecture, form)
