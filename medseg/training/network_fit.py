"""Whether a module takes patches of a shape, and which shapes it would take."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from medseg.device import Device
from medseg.errors import ConfigError, TrainingError, cause_of, lacks_memory
from medseg.networks.wrapped import MULTIPLES
from medseg.plan import Plan
from medseg.progress import counted


@dataclass(frozen=True)
class NetworkFit:
    """Whether a module gives logits of a plan's patches.

    Attributes:
        network: From images, ``(batch, channel, *spatial)``, to logits.
        channels: How many an image has.
        outputs: What each channel of the logits stands for.
        device: Where the module will be trained.
    """

    network: nn.Module
    channels: int
    outputs: Sequence[str]
    device: Device

    def check(self, plan: Plan) -> None:
        """Raises ``ConfigError`` where it does not, with a patch that it takes where one was found."""
        patch, n = plan.network_patch, len(self.outputs)
        shape = (plan.batch_size, self.channels, *patch)
        # On the meta device nothing is computed. Not every module can run there, so a complaint is seen to.
        if _complaint(self.network, shape, n) is None:
            return
        complaint = _complaint(self.network, shape, n, self.device)
        if complaint is None:
            return
        fitting = _fitting(self.network, shape, n)
        advice = f"set planning.patch_size={list(fitting or ())}, which it takes"
        if fitting is None:
            wanted = f"{counted(self.channels, 'channel')} and {counted(n, 'output')}"
            advice = f"set planning.patch_size to what it takes, and build it for {wanted} ({', '.join(self.outputs)})"
        raise ConfigError(f"{_cannot(self.network, patch)}: {complaint}; {advice}")


def misfit(network: nn.Module, shape: Sequence[int], error: Exception) -> TrainingError | None:
    """Returns what is said of an error that a network raised at a batch, where its patches do not fit.

    Args:
        network: What raised it.
        shape: Of the batch: ``(batch, channel, *spatial)``.
        error: What it raised.

    Returns:
        The error to raise, with patches that the network takes; None where the shape is not what it is about.
    """
    if lacks_memory(error) or _complaint(network, shape) is None:
        return None
    fitting = _fitting(network, shape)
    if fitting is None:
        return None
    return TrainingError(
        f"{_cannot(network, shape[2:])}: {_first_line(error)}; give it patches of {_shown(fitting)}, which it takes"
    )


def _complaint(
    network: nn.Module, shape: Sequence[int], outputs: int | None = None, device: Device | None = None
) -> str | None:
    """Returns what is wrong with the logits of images of one shape, in training and afterwards.

    Args:
        network: Which is copied.
        shape: ``(batch, channel, *spatial)``.
        outputs: How many channels the logits should have. None: as many as they have.
        device: Where it is tried. None: on the meta device, where nothing is computed.

    Returns:
        None where nothing is wrong.
    """
    batch_size, _, *patch = shape
    image = torch.zeros(*shape, device="meta" if device is None else device.torch_device)
    margin = getattr(network, "margin", ()) or (0,) * len(patch)
    try:
        tried = copy.deepcopy(network)
        tried = tried.to("meta") if device is None else device.place(tried, len(patch))
        with torch.no_grad(), nullcontext() if device is None else device.autocast():
            while_training, afterwards = tried.train()(image), tried.eval()(image)
    except Exception as error:  # whatever its author, MONAI and PyTorch say about the shape
        if lacks_memory(error):
            raise
        return _first_line(error)
    heads = list(while_training) if isinstance(while_training, list | tuple) else [while_training]
    if not heads or not all(isinstance(head, torch.Tensor) for head in heads):
        return "it gives neither logits nor a list of them while it trains"
    n = heads[0].shape[1] if outputs is None else outputs
    wanted = (batch_size, n, *(n - 2 * lost for n, lost in zip(patch, margin, strict=True)))
    if tuple(heads[0].shape[:2]) != wanted[:2]:
        return f"its logits are {_shown(heads[0].shape)}, where {_shown(wanted)} are needed"
    if not isinstance(afterwards, torch.Tensor):
        return "it gives no single tensor of logits in evaluation mode"
    if tuple(afterwards.shape) != wanted:
        return f"its logits in evaluation mode are {_shown(afterwards.shape)}, where {_shown(wanted)} are needed"
    return None


def _fitting(network: nn.Module, shape: Sequence[int], outputs: int | None = None) -> tuple[int, ...] | None:
    """Returns the smallest patch, at least as large, that the network takes; of multiples that networks take."""
    channels, patch = shape[1], tuple(shape[2:])
    larger = {tuple(-(-n // multiple) * multiple for n in patch) for multiple in MULTIPLES} - {patch}
    return next((each for each in sorted(larger) if _complaint(network, (1, channels, *each), outputs) is None), None)


def _cannot(network: nn.Module, patch: Sequence[int]) -> str:
    return f"network: {type(network).__name__} cannot be trained on patches of {_shown(patch)} voxels"


def _first_line(error: Exception) -> str:
    return (str(cause_of(error)).splitlines() or [type(error).__name__])[0].rstrip(".")


def _shown(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
