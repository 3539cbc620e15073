"""What all networks have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from medseg.architecture import Architecture


class Network(nn.Module):
    """The base of all networks: from images, ``(batch, channel, *spatial)``, to logits, ``(batch, label, *spatial)``.

    In training with deep supervision ``forward`` returns a list of logits, from the finest down. Spatial shapes have to
    be fitting ones; networks of valid convolutions return the logits of the centre, ``margin`` voxels from each side.

    Args:
        multiple_of: What each spatial edge of an image has to be a multiple of.

    Examples:
        A network of your own; any other ``nn.Module`` is made one by ``WrappedNetwork``:

        >>> import torch
        >>> from medseg.networks import Network
        >>> class Halves(Network):
        ...     def __init__(self, in_channels, out_channels):
        ...         super().__init__(multiple_of=(2, 2))
        ...         self.down = torch.nn.Conv2d(in_channels, 8, kernel_size=2, stride=2)
        ...         self.up = torch.nn.ConvTranspose2d(8, out_channels, kernel_size=2, stride=2)
        ...     def forward(self, image):
        ...         return self.up(self.down(image))
        >>> network = Halves(1, 3)
        >>> network(torch.zeros(1, 1, *network.fitting_shape((15, 9)))).shape
        torch.Size([1, 3, 16, 10])
    """

    deep_supervision = False
    architecture: Architecture | None = None  # that ``build_network`` built it of: it can be built again
    checkpointing = False  # compute activations again in the backward pass instead of keeping them

    def __init__(self, multiple_of: Sequence[int]) -> None:
        super().__init__()
        self.multiple_of = tuple(multiple_of)
        self.margin = (0,) * len(self.multiple_of)

    def fitting_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the smallest shape, at least as large, that ``forward`` takes.

        Args:
            shape: Voxels along each spatial axis.

        Raises:
            ValueError: The network is one of more or fewer axes.
        """
        if len(shape) != len(self.multiple_of):
            n = len(self.multiple_of)
            raise ValueError(
                f"spatial shape {tuple(shape)}: this is a {n}D network; its images are (batch, channel, …)"
            )
        fitting = tuple(-(-n // multiple) * multiple for n, multiple in zip(shape, self.multiple_of, strict=True))
        # Normalization needs more than one voxel at the lowest resolution.
        return fitting if fitting != self.multiple_of else (*fitting[:-1], 2 * fitting[-1])

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape to which ``forward`` itself pads images of a spatial shape that fits: most don't."""
        return tuple(shape)

    @property
    def head_weights(self) -> tuple[float, ...] | None:
        """The weights of the heads in the loss; None: each weighs half as much as the finer one before."""
        return None

    def arguments_for(self, shape: Sequence[int]) -> dict[str, Any]:
        """Returns ``network.arguments`` that follow from the shape of a patch, and that the user left open.

        Args:
            shape: Voxels of a patch along each spatial axis.
        """
        return {}

    def run(self, module: Callable[..., Any], *tensors: torch.Tensor) -> Any:
        """Returns ``module(*tensors)``; activations aren't kept in training where ``checkpointing`` is on."""
        if self.checkpointing and self.training:
            return checkpoint(module, *tensors, use_reentrant=False)
        return module(*tensors)
