"""Networks, as PyTorch modules from images to logits.

``create_network`` makes one by its name; the classes can be used directly, too. What ``create_network`` makes takes
images of any spatial shape; the classes alone take the shapes that their ``fitting_shape`` gives.

Example:
    >>> import torch
    >>> from medseg.networks import create_network
    >>> network = create_network("unet", in_channels=1, out_channels=3, spatial_dims=2)
    >>> network(torch.zeros(1, 1, 100, 80)).shape  # (batch, channel, x, y) to (batch, label, x, y)
    torch.Size([1, 3, 100, 80])
    >>> from medseg.networks import Architecture, build_network, default_architecture, entry_of
    >>> default_architecture(spatial_dims=3).features
    (32, 64, 128, 256, 320, 320)
    >>> architecture = Architecture(features=(4, 8), strides=((1, 1), (2, 2)), kernel_sizes=((3, 3), (3, 3)))
    >>> build_network(1, 2, architecture).eval()(torch.zeros(1, 1, 33, 21)).shape
    torch.Size([1, 2, 33, 21])
    >>> entry_of("unet").title
    'U-Net as nnU-Net plans it'

The classes take the same three arguments; what one of them alone knows is in ``Architecture.arguments``:

    >>> from medseg.networks import AttentionUNet, DynUNet, ResidualUNet, TransUNet, UNetPlusPlus
    >>> architecture = Architecture(
    ...     features=(4, 8, 16, 16), strides=((1, 1), (2, 2), (2, 2), (2, 2)), kernel_sizes=((3, 3),) * 4
    ... )
    >>> for kind in (AttentionUNet, DynUNet, ResidualUNet, TransUNet, UNetPlusPlus):
    ...     network = kind(in_channels=1, out_channels=3, architecture=architecture).eval()
    ...     assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 3, 64, 64)
"""

from medseg.architecture import Architecture
from medseg.networks.attention_unet import AttentionUNet
from medseg.networks.classic_unet import ClassicUNet
from medseg.networks.dynunet import DynUNet
from medseg.networks.entries import NETWORKS, Entry, entry_of
from medseg.networks.network import Network
from medseg.networks.promptable import Promptable
from medseg.networks.registry import build_network, create_network, default_architecture
from medseg.networks.residual_unet import ResidualUNet
from medseg.networks.transunet import TransUNet
from medseg.networks.unet import UNet
from medseg.networks.unet_plus_plus import UNetPlusPlus
from medseg.networks.wrapped import WrappedNetwork

__all__ = [
    "NETWORKS", "Architecture", "AttentionUNet", "ClassicUNet", "DynUNet", "Entry", "Network", "Promptable",
    "ResidualUNet", "TransUNet", "UNet", "UNetPlusPlus", "WrappedNetwork", "build_network", "create_network",
    "default_architecture", "entry_of",
]  # fmt: skip
