"""Modules of others as networks of medseg: which shapes they take is found by trying."""

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from medseg.errors import ConfigError, cause_of
from medseg.networks.network import Network
from medseg.plugin_errors import place_in_plugin

# Nobody's networks pool more often than six times.
MULTIPLES = (1, 2, 4, 8, 16, 32, 64)


class WrappedNetwork(Network):
    """A module of MONAI or a plugin as a network: heads as a list, and activations computed again on demand.

    Args:
        network: From images, ``(batch, channel, *spatial)``, to logits; or, while it trains, to a list of them.
        multiple_of: What each spatial edge of its images has to be a multiple of.
        deep_supervision: Whether training learns from all heads, or from the finest one only.

    Examples:
        >>> import torch
        >>> from monai.networks.nets import SegResNet
        >>> from medseg.networks import WrappedNetwork
        >>> network = WrappedNetwork(SegResNet(spatial_dims=2, out_channels=2), multiple_of=(8, 8))
        >>> network(torch.zeros(1, 1, 32, 24)).shape
        torch.Size([1, 2, 32, 24])
    """

    def __init__(self, network: nn.Module, multiple_of: Sequence[int], deep_supervision: bool = False) -> None:
        super().__init__(multiple_of)
        self.network = network
        self.deep_supervision = deep_supervision
        for part in _parts(network):
            # A partial of methods, since copies of it belong to the copied network; those of a function don't. The
            # forward of its class is looked up at each call: another class may take its place (``medseg.cpu_layers``).
            part.forward = functools.partial(self.run, functools.partial(_forward, part))

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Returns the logits, ``(batch, label, *spatial)``; in training with deep supervision a list of them.

        The list goes from the finest down.
        """
        outputs = self.network(image)
        heads = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        return heads if self.training and self.deep_supervision else heads[0]


def _forward(module: nn.Module, *tensors: torch.Tensor) -> Any:
    """Returns what the class of a module makes of tensors."""
    return type(module).forward(module, *tensors)


def _parts(network: nn.Module) -> Iterator[nn.Module]:
    """Yields the largest modules within that are called; lists of modules are not."""
    for child in network.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _parts(child)
        else:
            yield child


class TriedNetwork(WrappedNetwork):
    """What shapes it takes was found by trying: multiples of ``multiple_of`` from ``least`` on, or ``shape`` only."""

    def __init__(
        self,
        network: nn.Module,
        multiple_of: Sequence[int],
        least: int,
        shape: Sequence[int] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__(network, multiple_of, deep_supervision)
        self.least, self.shape = least, shape

    def fitting_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the smallest shape, at least as large, that ``forward`` takes.

        Raises:
            ConfigError: The network takes one shape only, and that is smaller.
        """
        if self.shape is None:
            return super().fitting_shape([max(n, self.least) for n in shape])
        if any(n > most for n, most in zip(shape, self.shape, strict=True)):
            raise ConfigError(
                f"network.arguments.img_size is {list(self.shape)}, and a patch is {list(shape)}; make "
                "planning.patch_size and img_size equal"
            )
        return tuple(self.shape)


class ShapeTrial:
    """Sees what a module does to images without content, which computes nothing.

    Args:
        name: What messages call the module.
        network: The module, which is copied.
        in_channels: Of the images.
        out_channels: Of the logits.
    """

    def __init__(self, name: str, network: nn.Module, in_channels: int, out_channels: int) -> None:
        self.name, self.network = name, copy.deepcopy(network).to("meta")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.heads = 1  # that it had when it was tried last while training

    def wrapped(self, network: nn.Module, dims: int, deep_supervision: bool = False) -> TriedNetwork:
        """Returns the network with the multiples and the least edges that it takes.

        Args:
            network: What is wrapped.
            dims: Spatial axes of the images, 2 or 3.
            deep_supervision: Whether all of its heads are trained.

        Raises:
            ConfigError: It takes none of the shapes that were tried.
        """
        complaint: str | None = None
        for multiple in MULTIPLES:
            # Of all multiples it is one of this only; and large enough for any network.
            if (complaint := self.complaint((128 + multiple,) * dims if multiple < 64 else (192,) * dims)) is None:
                break
        self.refuse(complaint)
        heads = self.heads
        least = next((n for n in MULTIPLES if n >= multiple and self.complaint((n,) * dims) is None), 128)
        return TriedNetwork(network, (multiple,) * dims, least, None, deep_supervision and heads > 1)

    def wrapped_for(self, network: nn.Module, shape: Sequence[int]) -> TriedNetwork:
        """Returns the network, which takes images of one shape only.

        Args:
            network: What is wrapped.
            shape: Voxels along each spatial axis.

        Raises:
            ConfigError: It doesn't take that shape.
        """
        self.refuse(self.complaint(shape))
        return TriedNetwork(network, shape, 0, shape)

    def refuse(self, complaint: str | None) -> None:
        """Raises an error where there is a complaint.

        Raises:
            ConfigError: The complaint is not None.
        """
        if complaint is not None:
            raise ConfigError(f"network.name: {self.name} cannot be trained here: {complaint}")

    def complaint(self, shape: Sequence[int]) -> str | None:
        """Returns what is wrong with the logits of an image of this shape, in training and in prediction."""
        for training in (True, False):
            try:
                answer = self.network.train(training)(torch.empty(1, self.in_channels, *shape, device="meta"))
            except Exception as error:  # whatever its author and PyTorch say about the shape
                place = place_in_plugin(error)
                reason = (str(cause_of(error)).splitlines() or [type(error).__name__])[0]
                return reason if place is None else f"{place}: {reason}"
            heads = list(answer) if isinstance(answer, list | tuple) else [answer]
            if training:
                self.heads = len(heads)
            elif len(heads) != 1:
                return f"it has {len(heads)} outputs; where these are of deep supervision, switch that off"
            logits = all(isinstance(each, torch.Tensor) and each.shape[:2] == (1, self.out_channels) for each in heads)
            if not heads or not logits or tuple(heads[0].shape[2:]) != tuple(shape):
                return "its output is not one logit for each label and voxel"
        return None
