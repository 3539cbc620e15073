"""Whether a device trains a network as the processor does: one step is tried there before a run begins.

Processors and CUDA are trusted. What is here was tried with fakes only, never on an Apple GPU (``mps``).
"""

import copy
from collections.abc import Callable
from math import isclose
from typing import Literal

import torch
from torch import nn

from medseg.config import AugmentationConfig, Config
from medseg.dataset.patches import Batch
from medseg.dataset.store import PreparedDataset
from medseg.device import Device, choose_device
from medseg.errors import MedsegError, reason_of
from medseg.inferers.device_check import TRUSTED, fall_back
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.training.epoch import Epoch
from medseg.training.parts import OwnParts, make_trainer
from medseg.training.run import resolve_plan

# How far loss and gradient may differ from the processor's, as a part of it.
TOLERANCE = 0.05


def sound_device(
    device: Device, plan_of: Callable[[], Plan], dataset: PreparedDataset, config: Config, own: OwnParts
) -> Device:
    """Returns the device, or the processor, with a warning, where training fails on it.

    A step on noise is tried there and on the processor: all of augmentation, network, loss, gradients and optimizer.
    Loss and norm of the gradient have to be those of the processor.

    Args:
        device: As it was chosen.
        plan_of: Gives the plan, or one like it; only asked where the device is not trusted.
        dataset: Says how many channels and labels there are.
        config: The settings of the training.
        own: What the user brings.
    """
    if device.torch_device.type in TRUSTED:
        return device
    plan = plan_of()
    named = AugmentationConfig.model_fields
    config = _with_augmentation(config, **{name: 1.0 for name in named if name.endswith("probability")})
    # What noise is drawn depends on the device.
    without_noise = _with_augmentation(config, noise_probability=0.0)
    expected = _step(choose_device("cpu", "fp32"), plan, dataset, without_noise, own)
    try:
        found = _step(device, plan, dataset, without_noise, own)
        _step(device, plan, dataset, config, own)
    except (RuntimeError, TypeError, MedsegError) as error:  # NotImplementedError among them: an operation is missing
        reason = reason_of(error)
    else:
        pairs = (found.loss, expected.loss), (found.gradient_norm, expected.gradient_norm)
        reason = "" if all(isclose(*pair, rel_tol=TOLERANCE) for pair in pairs) else "it learns otherwise there"
    if reason:
        fall_back(device, reason)
        return choose_device("cpu", config.training.precision, config.training.threads)
    return device


def usual_plan(dataset: PreparedDataset, dims: Literal[2, 3] | None, config: Config) -> Plan:
    """Returns a plan like the one that a run on a processor gets, whatever time there is."""
    training = config.training.model_copy(update={"max_time": None})
    return resolve_plan(dataset, dims, config.model_copy(update={"training": training}), choose_device("cpu"))[0]


def _with_augmentation(config: Config, **probabilities: float) -> Config:
    return config.model_copy(update={"augmentation": config.augmentation.model_copy(update=probabilities)})


def _step(device: Device, plan: Plan, dataset: PreparedDataset, config: Config, own: OwnParts) -> Epoch:
    """Returns what the first step of a training gives."""
    channels, outputs = len(dataset.record.channels), len(plan.outputs(dataset.labels))
    torch.manual_seed(0)
    # Prompts depend on what the network says: where that is cut off, devices part.
    plan = plan.model_copy(update={"architecture": plan.architecture.model_copy(update={"prompts": None})})
    network: nn.Module
    if own.network is None:
        network = build_network(channels, outputs, plan.architecture, config.network.checkpointing)
    else:
        network = copy.deepcopy(own.network)
    trainer = make_trainer(network, plan, config, device, own=OwnParts(loss=own.loss, optimizer=own.optimizer))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, *plan.network_patch, generator=generator)
    label = torch.randint(2, (1, 1, *plan.network_patch), dtype=torch.uint8, generator=generator)
    n_targets = 0 if plan.objects is None else len(plan.objects.targets)
    targets = torch.rand(1, n_targets, *plan.network_patch, generator=generator) if n_targets else None
    batch = Batch(image, label, ("noise",), targets=targets)
    return trainer.run_steps(iter([batch]), 0, 1, lambda step: 0.5)
