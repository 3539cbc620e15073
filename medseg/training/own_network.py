"""A network that the user brings as a module: what a run knows of it, and whether it fits the plan."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from pydantic_core import PydanticSerializationError
from torch import nn

from medseg.config import NetworkConfig
from medseg.device import Device
from medseg.errors import ConfigError, cause_of, lacks_memory
from medseg.networks.network import Network
from medseg.networks.wrapped import MULTIPLES
from medseg.plan import Architecture, Plan
from medseg.planning.network import fit_to_network
from medseg.progress import counted
from medseg.training.run import Run


def with_own_network(run: Run, network: nn.Module, device: Device) -> Run:
    """Returns a run that trains a module of the user's.

    A network of ``create_network`` is stored by its name, as if ``network.name`` had named it, so that nobody has to
    give it again. Of another module the plan says that it is a custom one.

    Args:
        run: As ``start_runs`` gives it, for a custom network.
        network: The user's module.
        device: Where it will be trained.

    Raises:
        ConfigError: The module cannot be trained on the plan's patches, or has other channels or outputs.
    """
    if isinstance(network, Network) and (architecture := _stored(network)) is not None:
        run = _named(run, network, architecture)
    channels, outputs = len(run.dataset.record.channels), run.plan.outputs(run.dataset.labels)
    Fit(network, channels, outputs, device).check(run.plan)
    return run


def _stored(network: Network) -> Architecture | None:
    """Returns what a network was built of, as a file can hold it; None where it cannot, as of arguments that are
    modules."""
    if network.architecture is None:
        return None
    try:
        return Architecture.model_validate(network.architecture.model_dump(mode="json"))
    except PydanticSerializationError:
        return None


def _named(run: Run, network: Network, architecture: Architecture) -> Run:
    dims, name = len(architecture.strides[0]), architecture.name
    if dims != run.plan.dims:
        raise ConfigError(f"network: is a {dims}D {name}, and the plan is {run.plan.dims}D; give dims={dims}")
    # What follows from the patch is left as the network was built.
    plan = fit_to_network(run.plan, network).model_copy(update={"architecture": architecture})
    content = architecture.model_dump(mode="json")
    settings = {key: value for key, value in content.items() if key in NetworkConfig.model_fields}
    config = run.config.model_copy(update={"network": run.config.network.model_copy(update=settings)})
    return replace(run, plan=plan, config=config)


@dataclass(frozen=True)
class Fit:
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
        patch = plan.network_patch
        # On the meta device nothing is computed. Not every module can run there, so a complaint is seen to.
        if self._complaint(patch, plan.batch_size, "meta") is None:
            return
        complaint = self._complaint(patch, plan.batch_size)
        if complaint is None:
            return
        fitting = next((shape for shape in _larger(patch) if self._complaint(shape, 1, "meta") is None), None)
        advice = f"set planning.patch_size={list(fitting or ())}, which it takes"
        if fitting is None:
            wanted = f"{counted(self.channels, 'channel')} and {counted(len(self.outputs), 'output')}"
            advice = f"set planning.patch_size to what it takes, and build it for {wanted} ({', '.join(self.outputs)})"
        name = type(self.network).__name__
        raise ConfigError(
            f"network: {name} cannot be trained on patches of {_shown(patch)} voxels: {complaint}; {advice}"
        )

    def _complaint(self, patch: Sequence[int], batch_size: int, device: str = "") -> str | None:
        """Returns what is wrong with the logits of images of one shape, in training and afterwards; None where
        nothing is."""
        image = torch.zeros(batch_size, self.channels, *patch, device=device or self.device.torch_device)
        margin = getattr(self.network, "margin", ()) or (0,) * len(patch)
        wanted = (batch_size, len(self.outputs), *(n - 2 * lost for n, lost in zip(patch, margin, strict=True)))
        try:
            network = copy.deepcopy(self.network)
            network = network.to(device) if device else self.device.place(network, len(patch))
            with torch.no_grad(), nullcontext() if device else self.device.autocast():
                while_training, afterwards = network.train()(image), network.eval()(image)
        except Exception as error:  # whatever its author, MONAI and PyTorch say about the shape
            if lacks_memory(error):
                raise
            return (str(cause_of(error)).splitlines() or [type(error).__name__])[0].rstrip(".")
        heads = list(while_training) if isinstance(while_training, list | tuple) else [while_training]
        if not heads or not all(isinstance(head, torch.Tensor) for head in heads):
            return "it gives neither logits nor a list of them while it trains"
        if tuple(heads[0].shape[:2]) != wanted[:2]:
            return f"its logits are {_shown(heads[0].shape)}, where {_shown(wanted)} are needed"
        if not isinstance(afterwards, torch.Tensor):
            return "it gives no single tensor of logits in evaluation mode"
        if tuple(afterwards.shape) != wanted:
            return f"its logits in evaluation mode are {_shown(afterwards.shape)}, where {_shown(wanted)} are needed"
        return None


def _larger(patch: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns shapes that are at least as large, of multiples that networks take, from the smallest on."""
    shapes = {tuple(-(-n // multiple) * multiple for n in patch) for multiple in MULTIPLES}
    return sorted(shapes - {tuple(patch)})


def _shown(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
