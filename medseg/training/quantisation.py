"""A run's network in int8: made of patches that it was trained on, for the windows that its model predicts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch

from medseg.dataset.patches import PatchSampler
from medseg.errors import TrainingError
from medseg.inferers.backends import INT8_TOLERANCE, OneByOne, precision_of
from medseg.inferers.graphs import openvino_runner
from medseg.inferers.model import Model, weights_fingerprint
from medseg.inferers.quantised import QuantisedRecord, quantised
from medseg.inferers.windows import window_of
from medseg.progress import say
from medseg.training.run import Run

# Patches of training cases that activations are measured on: as many as have about so many voxels, within limits.
CALIBRATION_VOXELS = 2**23
LEAST_PATCHES, MOST_PATCHES = 8, 64
# What quantising takes, in seconds, and in windows of float32 for each patch.
SECONDS = 20.0
WINDOWS_A_PATCH = 4.0


@dataclass(frozen=True)
class Int8Network:
    """A network in int8.

    Attributes:
        graph: OpenVINO's.
        model: The model, with its network run by that graph.
        window: The voxels that the graph takes, along each axis that the network sees.
    """

    graph: Any
    model: Model
    window: tuple[int, ...]

    def record(self, dice: float, dice_before: float, cases: int) -> QuantisedRecord:
        """Returns what is noted of the quantised network.

        Args:
            dice: The mean over labels and held-back cases, on the model grid.
            dice_before: The same of the network as it was trained.
            cases: How many were held back.
        """
        fingerprint = weights_fingerprint(self.model.folder)
        return QuantisedRecord(
            fingerprint=fingerprint, dice=dice, dice_before=dice_before, cases=cases, window=self.window
        )


def quantise_model(run: Run, model: Model) -> Int8Network:
    """Returns the network of a run's model in int8.

    Args:
        run: The cases that it was trained on, and their patches.
        model: On a processor; its settings of inference say what windows it predicts.

    Raises:
        ConfigError: NNCF isn't installed.
        TrainingError: The patches of the run have another shape than the windows.
    """
    window = window_of(model.network, run.plan, model.record.inference)
    patches = calibration_patches(run, window)
    say(f"{run.folder}: quantising with {len(patches)} patches of the training cases")
    graph = quantised(model.network, patches)
    runner = openvino_runner(graph, precision_of(model.device))
    network = OneByOne(model.network, runner, window, INT8_TOLERANCE).eval()
    return Int8Network(graph, replace(model, network=network, backend="int8"), window)


def calibration_patches(run: Run, window: Sequence[int]) -> torch.Tensor:
    """Returns patches ``(patch, channel, *spatial)`` of training cases, as large as a window.

    Raises:
        TrainingError: They have another shape.
    """
    settings, plan = run.config.training, run.plan
    sampler = PatchSampler(
        run.dataset.subset(run.split.training),
        plan.model_copy(update={"patch_size": plan.in_space(window, 1)}),
        batch_size=n_patches(window),
        foreground_fraction=settings.foreground_fraction,
        seed=settings.seed,
    )
    patches = sampler.batch(0).image
    if tuple(patches.shape[2:]) != tuple(window):
        raise TrainingError(f"{run.folder}: its patches are {tuple(patches.shape[2:])}, its windows {tuple(window)}")
    return patches


def n_patches(window: Sequence[int]) -> int:
    """Returns how many patches of the size of a window activations are measured on."""
    return max(LEAST_PATCHES, min(MOST_PATCHES, CALIBRATION_VOXELS // prod(window)))


def quantising_seconds(window: Sequence[int], window_seconds: float) -> float:
    """Returns about how long quantising takes, by the time that a window takes."""
    return SECONDS + WINDOWS_A_PATCH * n_patches(window) * window_seconds
