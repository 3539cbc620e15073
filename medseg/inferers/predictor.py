"""The network as a function of windows: 2D or 3D, mirrored, on whatever device has room for it."""

from collections.abc import Callable, Sequence
from itertools import chain, combinations

import torch

from medseg.device import Device, choose_device
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
        self.flips = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Returns the logits ``(batch, label, x, y, z)`` of windows ``(batch, channel, x, y, z)``."""
        windows = self.device.send(windows)
        total = self._predict(windows)
        if len(self.flips) == 1:
            return total
        total = total.float()
        for flip in self.flips[1:]:
            total += self._predict(windows.flip(flip)).flip(flip)
        return total.div_(len(self.flips))

    def to_processor(self) -> None:
        """Takes the network to the processor, where the GPU has no room for it."""
        self.device = choose_device("cpu")
        if isinstance(self.network, torch.nn.Module):
            self.network = self.device.place(self.network, self.plan.dims)

    def _predict(self, windows: torch.Tensor) -> torch.Tensor:
        axis = None if self.plan.slice_axis is None else self.plan.slice_axis + 2
        with self.device.timed((id(self.network), windows.shape[2:]), len(windows)), self.device.autocast():
            logits = self.network(windows if axis is None else windows.squeeze(axis))
        return logits if axis is None else logits.unsqueeze(axis)
