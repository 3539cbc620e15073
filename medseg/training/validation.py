"""Validation while training: whole cases by the sliding windows of prediction, on the model grid."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch

from medseg.config import InferenceConfig
from medseg.dataset.store import PreparedDataset
from medseg.evaluation.case import Measures, measure_case
from medseg.inferers.case_stream import CaseStream, predict_labels
from medseg.inferers.objects import predict_objects
from medseg.inferers.predictor import Predictor
from medseg.metrics.definitions import METRICS
from medseg.metrics.overlap import count_overlaps, without_ignored
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

    Attributes:
        dice: By label and region.
        seconds: That it took.
        example: A case to look at.
        metric: What says which weights are the best: a name of ``medseg.metrics.definitions.METRICS``.
        measured: Likewise by label and region; empty where it is Dice.
    """

    dice: dict[str, float | None]
    seconds: float
    example: Example | None = None
    metric: str = "dice"
    measured: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def mean_dice(self) -> float:
        """The mean Dice over the labels and regions; 0 when there is nothing to compare."""
        return _mean(self.dice)

    @property
    def score(self) -> float:
        """The mean of ``metric`` over the labels and regions, by which the best weights are chosen."""
        return _mean(self.measured) if self.metric != "dice" else self.mean_dice


def validate(
    predictor: Predictor,
    dataset: PreparedDataset,
    config: InferenceConfig,
    processes: ProcessGroup = ALONE,
    metric: str = "dice",
) -> ValidationResult:
    """Returns the Dice that a network reaches, without mirroring. Of a process group, each process takes a part.

    Args:
        predictor: Predicts the cases, by a network and its plan.
        dataset: The held-back cases, as by ``dataset.subset(split.validation)``.
        config: The settings of the windows.
        processes: The example is that of the first one.
        metric: What else is measured: "lesion_f1", "centreline_dice" and the like, on the model grid. Objects
            ("object_ap") are grouped from a depth of one half on; the best threshold is chosen when the training ends.
    """
    start = time.perf_counter()
    names, example = list(dataset.labels.unions), None
    dice: dict[str, list[float]] = {name: [] for name in names}
    measured: dict[str, list[float]] = {name: [] for name in names}
    for case_id in dataset.case_ids[processes.rank :: processes.size]:
        image = torch.from_numpy(dataset.image(case_id).astype(np.float32))
        predicted, objects = _predicted(predictor, image, config, metric)
        dataset.check_values(case_id, dataset.label_map(case_id))
        predicted, reference = without_ignored(predicted, dataset.label_map(case_id))
        known = dataset.labels.annotated_unions(dataset.cases[case_id].annotated)
        overlaps = count_overlaps(predicted, reference, len(dataset.labels.items), known.values())
        example = example or Example(case_id, image.numpy(), reference, predicted, dataset.model_grid(case_id))
        for name, overlap in zip(known, overlaps, strict=True):
            if overlap.dice is not None:
                dice[name].append(overlap.dice)
        for name, value in () if metric == "dice" else _measured(dataset, case_id, predicted, metric, objects):
            measured[name].append(value)
    means, others = (
        {name: fmean(v) if v else None for name, v in _gathered(each, processes).items()} for each in (dice, measured)
    )
    seconds = time.perf_counter() - start
    return ValidationResult(means, seconds, example, metric, {} if metric == "dice" else others)


def _predicted(
    predictor: Predictor, image: torch.Tensor, config: InferenceConfig, metric: str
) -> tuple[Array, Array | None]:
    """Returns the label map of a case, and its objects where the network has learnt them and they are measured."""
    if predictor.plan.objects is None or METRICS[metric].group != "objects":
        labels = predict_labels(predictor.network, image, predictor.plan, config, predictor.device)
        return labels.numpy(), None
    label_map, objects = predict_objects(CaseStream(predictor, image, config))
    return label_map, objects.object_map


def _measured(
    dataset: PreparedDataset, case_id: str, predicted: Array, metric: str, objects: Array | None
) -> list[tuple[str, float]]:
    """Returns a metric of each label and region of a case for which it is defined; of objects, of their labels."""
    pair = None if objects is None else (objects, dataset.objects(case_id))
    measures = Measures((metric,), annotated=dataset.cases[case_id].annotated, objects=pair)
    grid, labels = dataset.model_grid(case_id), dataset.labels
    records = measure_case(case_id, predicted, dataset.label_map(case_id), grid.spacing, labels, measures)
    meant = labels.unions if objects is None else labels.instances
    return [
        (each.label, value) for each in records if each.label in meant and (value := each.values[metric]) is not None
    ]


def _gathered(values: dict[str, list[float]], processes: ProcessGroup) -> dict[str, list[float]]:
    """Returns the values of all processes, by label and region."""
    each = processes.gather(values)
    return {name: [value for own in each for value in own[name]] for name in values}


def _mean(values: Mapping[str, float | None]) -> float:
    known = [value for value in values.values() if value is not None]
    return fmean(known) if known else 0.0
