"""The network as a function of windows: 2D or 3D, mirrored, on whatever device has room for it."""

import copy
from collections.abc import Callable, Sequence
from itertools import chain, combinations

import torch

from medseg.device import Device, choose_device
from medseg.inferers.ensemble import Ensemble
from medseg.plan import Plan

# (batch, channel, *spatial) to logits (batch, label, *spatial): a network, or what runs it in another way.
Backend = Callable[[torch.Tensor], torch.Tensor]


class Predictor:
    """Predicts windows: the mean of the logits over all combinations of the mirrored array axes.

    2D networks see windows without the slice axis.

    Args:
        network: Windows ``(batch, channel, *spatial)`` to logits ``(batch, label, *spatial)``.
        plan: Says which axis 2D networks don't see.
        device: Where the network lies, and in which precision it runs.
        mirror_axes: Array axes, 0 to 2.
    """

    def __init__(self, network: Backend, plan: Plan, device: Device, mirror_axes: Sequence[int] = ()) -> None:
        self.network = network
        self.plan = plan
        self.device = device
        axes = [axis + 2 for axis in mirror_axes]
        self.largest_batch = 0
        self.flips = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))

    def __call__(
        self, windows: torch.Tensor, as_summed: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Returns the logits of windows.

        Args:
            windows: ``(batch, channel, x, y, z)``.
            as_summed: Rounds logits as they count in sums; those of an ensemble network by network.

        Returns:
            ``(batch, label, x, y, z)``.
        """
        windows = self.device.send(windows)
        if as_summed is None:
            return self._mirrored(self.network, windows)
        networks = list(self.network.networks) if isinstance(self.network, Ensemble) else [self.network]
        total = as_summed(self._mirrored(networks[0], windows))
        if len(networks) == 1:
            return total
        total = total.float()
        for network in networks[1:]:
            total += as_summed(self._mirrored(network, windows))
        return total.div_(len(networks))

    def _mirrored(self, network: Backend, windows: torch.Tensor) -> torch.Tensor:
        """Returns the mean over all combinations of the mirrored axes."""
        total = self._predict(network, windows)
        if len(self.flips) == 1:
            return total
        total = total.float()
        for flip in self.flips[1:]:
            total += self._predict(network, windows.flip(flip)).flip(flip)
        return total.div_(len(self.flips))

    def to_processor(self) -> None:
        """Goes on with a copy of the network in main memory, where the GPU has too little.

        The network itself stays where it is: it may be in training, and the next case may have room.
        """
        self.device = choose_device("cpu")
        if isinstance(self.network, torch.nn.Module):
            self.network = self.device.place(copied_to_processor(self.network), self.plan.dims)

    def _predict(self, network: Backend, windows: torch.Tensor) -> torch.Tensor:
        axis, n = None if self.plan.slice_axis is None else self.plan.slice_axis + 2, len(windows)
        self.largest_batch = max(self.largest_batch, n)
        # What remains of a row of windows is a smaller batch, of another size in other rows and cases.
        is_usual = n == self.largest_batch
        with self.device.timed((id(network), windows.shape[2:]), n, is_usual), self.device.autocast():
            logits = network(windows if axis is None else windows.squeeze(axis))
        return logits if axis is None else logits.unsqueeze(axis)


def copied_to_processor(network: torch.nn.Module) -> torch.nn.Module:
    """Returns a copy of a network in main memory, made without memory of the GPU."""
    tensors = [*network.parameters(), *network.buffers()]
    copies: dict[int, object] = {}
    for tensor in tensors:
        plain = tensor.detach().to("cpu", copy=True)
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        copies[id(tensor)] = torch.nn.Parameter(plain, tensor.requires_grad) if is_parameter else plain
    return copy.deepcopy(network, copies)
