"""Validation while training: whole cases by the sliding windows of prediction, on the model grid."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from medseg.config import InferenceConfig
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.evaluation.overlap import count_overlaps
from medseg.inference.stream import predict_labels
from medseg.plan import Plan


@dataclass(frozen=True)
class Validation:
    """Dice of each label: the mean over the cases that have it in reference or prediction; None where none has."""

    dice: dict[str, float | None]
    seconds: float

    @property
    def mean_dice(self) -> float:
        """Over the labels; 0 when there is nothing to compare."""
        values = [value for value in self.dice.values() if value is not None]
        return fmean(values) if values else 0.0


def validate(
    network: torch.nn.Module,
    dataset: PreparedDataset,
    case_ids: Sequence[str],
    plan: Plan,
    config: InferenceConfig,
    device: Device,
) -> Validation:
    """Predicts each case with ``network`` and compares it with its label map, without mirroring."""
    start = time.perf_counter()
    names = dataset.labels.names
    dice: dict[str, list[float]] = {name: [] for name in names}
    for case_id in case_ids:
        image = torch.from_numpy(dataset.image(case_id).astype(np.float32))
        predicted = predict_labels(network, image, plan, config, device).numpy()
        overlaps = count_overlaps(predicted, dataset.label_map(case_id), len(names))
        for name, overlap in zip(names, overlaps, strict=True):
            if overlap.dice is not None:
                dice[name].append(overlap.dice)
    means = {name: fmean(values) if values else None for name, values in dice.items()}
    return Validation(means, time.perf_counter() - start)
