"""Validation while training: whole cases by the sliding windows of prediction, on the model grid."""

import time
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from medseg.config import InferenceConfig
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.inferers.case_stream import predict_labels
from medseg.metrics.overlap import count_overlaps, without_ignored
from medseg.plan import Plan
from medseg.process_group import ALONE, ProcessGroup
from medseg.volume import Array, Geometry


@dataclass(frozen=True)
class Example:
    """The first case: its image (channel, x, y, z), and label maps (x, y, z) in network values, on the model grid."""

    case_id: str
    image: Array
    reference: Array
    predicted: Array
    grid: Geometry


@dataclass(frozen=True)
class ValidationResult:
    """The Dice of each label and region; None where no case has it.

    It is the mean over the cases that have it in reference or prediction, where it was annotated.
    """

    dice: dict[str, float | None]
    seconds: float
    example: Example | None = None

    @property
    def mean_dice(self) -> float:
        """The mean Dice over the labels and regions; 0 when there is nothing to compare."""
        values = [value for value in self.dice.values() if value is not None]
        return fmean(values) if values else 0.0


def validate(
    network: torch.nn.Module,
    dataset: PreparedDataset,
    plan: Plan,
    config: InferenceConfig,
    device: Device,
    processes: ProcessGroup = ALONE,
) -> ValidationResult:
    """Returns the Dice that a network reaches, without mirroring. Of a process group, each process takes a part.

    Args:
        network: Predicts the cases.
        dataset: The held-back cases, as by ``dataset.subset(split.validation)``.
        plan: The grid and the patch of the network.
        config: The settings of the windows.
        device: Where the network is.
        processes: The example is that of the first one.
    """
    start = time.perf_counter()
    names, example = list(dataset.labels.unions), None
    dice: dict[str, list[float]] = {name: [] for name in names}
    for case_id in dataset.case_ids[processes.rank :: processes.size]:
        image = torch.from_numpy(dataset.image(case_id).astype(np.float32))
        predicted = predict_labels(network, image, plan, config, device).numpy()
        dataset.check_values(case_id, dataset.label_map(case_id))
        predicted, reference = without_ignored(predicted, dataset.label_map(case_id))
        known = dataset.labels.annotated_unions(dataset.cases[case_id].annotated)
        overlaps = count_overlaps(predicted, reference, len(dataset.labels.items), known.values())
        example = example or Example(case_id, image.numpy(), reference, predicted, dataset.model_grid(case_id))
        for name, overlap in zip(known, overlaps, strict=True):
            if overlap.dice is not None:
                dice[name].append(overlap.dice)
    each = processes.gather(dice)
    together = {name: [value for dice in each for value in dice[name]] for name in names}
    means = {name: fmean(values) if values else None for name, values in together.items()}
    return ValidationResult(means, time.perf_counter() - start, example)
