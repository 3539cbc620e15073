"""A case that the network has seen: its label map on the grid of the source, postprocessed, and what is said of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from medseg.config import InferenceConfig
from medseg.dataset.cases import Case
from medseg.decoding import decoding_of, or_on_processor
from medseg.inferers.accumulator import Slab
from medseg.inferers.confidence import ChosenLabelProbability, Confidence
from medseg.inferers.model import Model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.objects import ObjectObserver
from medseg.inferers.predictor import Predictor
from medseg.inferers.segmentation import SegmentationResult, Watcher, segment
from medseg.inferers.uncertainty import Maps
from medseg.instances.grouping import Objects
from medseg.postprocessing.components import Rule, RuleEffect, postprocess
from medseg.prediction.case_reading import ReadCase, header_grid
from medseg.progress import say
from medseg.transforms.model_grid import ModelGridRule
from medseg.transforms.restoring import Observer, restore_label_map
from medseg.volume import Array, Geometry

UNCERTAINTY = "uncertainty"


@dataclass(frozen=True)
class SegmentedCase:
    """What the network says of a case, postprocessed."""

    case: Case
    warnings: tuple[str, ...]  # about its images
    segmentation: SegmentationResult
    geometry: Geometry
    oddities: tuple[str, ...]  # of the values of its images
    changes: tuple[RuleEffect, ...]  # by postprocessing
    maps: dict[str, Maps]
    expected_dice: dict[str, float]
    forecast_mb: float | None
    peak_memory_mb: float
    stages: dict[str, float]
    objects: Objects | None = None  # on the grid of the source, of a model that learnt them


def segment_case(
    read_case: ReadCase, model: Model, config: InferenceConfig, extras: Sequence[str] = ()
) -> SegmentedCase:
    """Returns what the network of a model says of a case, postprocessed.

    Args:
        read_case: The case, prepared.
        model: The network, its labels and its rules of postprocessing.
        config: The settings of the windows.
        extras: Maps that are gathered beside the label map: "probabilities", "uncertainty".

    Raises:
        MedsegError: Memory is too little, or the source is sheared and maps are asked for.
    """
    start = time.perf_counter()
    record, prepared, memory = model.record, read_case.prepared, read_case.memory
    geometry, of_header = prepared.source, header_grid(read_case.case.images[0], prepared.source)
    maps = {name: _maps(name, record, of_header) for name in extras}
    confidence = Confidence(record.labels, decoding_of(record.plan), prepared.geometry.shape)
    axes = record.plan.mirrored_axes if config.mirror else ()
    predictor = Predictor(model.network, record.plan, model.device, axes)
    memory_plan = None if memory is None else memory.memory_plan
    early, rules = (
        [rule for rule in record.postprocessing if rule.on_model_grid is is_early] for is_early in (True, False)
    )
    probability = ChosenLabelProbability(prepared.geometry) if rules and not record.plan.regions else None
    coarse = _OnModelGrid(record, prepared.geometry, early) if early else None
    watchers: list[Watcher] = [confidence, *(each for each in (probability, coarse) if each is not None)]
    objects = None if record.plan.objects is None else ObjectObserver(record.plan, record.grouping, geometry)
    observers: list[Observer] = [*maps.values(), *([] if objects is None else [objects])]
    segmentation = segment(predictor, prepared, config, memory_plan, observers, watchers)
    for change in model.device.threads.told():
        say(change)
    sure = None if probability is None else lambda voxels: probability.at(geometry.world(voxels))
    before = () if coarse is None else coarse.postprocess(segmentation.label_map, geometry)
    changes = postprocess(segmentation.label_map, rules, record.labels.names, geometry.voxel_volume_ml, sure)
    network = segmentation.network_seconds
    return SegmentedCase(
        case=read_case.case,
        warnings=read_case.warnings,
        segmentation=segmentation,
        geometry=geometry,
        oddities=read_case.oddities,
        changes=(*before, *changes),
        maps=maps,
        expected_dice=confidence.expected_dice,
        forecast_mb=None if memory is None else memory.peak / 2**20,
        peak_memory_mb=model.device.peak_memory_mb(),
        stages={**read_case.stages, "network": network, "restore": time.perf_counter() - start - network},
        objects=None if objects is None else objects.objects(),
    )


class _OnModelGrid:
    """Keeps the label map of the model grid, which rules change before it is brought to the grid of the source."""

    def __init__(self, record: ModelRecord, grid: Geometry, rules: Sequence[Rule]) -> None:
        self.names, self.decoding, self.grid, self.rules = record.labels.names, decoding_of(record.plan), grid, rules
        self.back = ModelGridRule.of(record.plan.grid).nearest_axes_back(grid)
        self._label_map = torch.zeros(grid.shape, dtype=torch.uint8)

    def take(self, slab: Slab) -> None:
        """Stores the labels of the next slab."""
        for i, plane in slab.planes():
            labels = or_on_processor(lambda logits: self.decoding.labels(logits, -1), plane)
            self._label_map.select(slab.axis, i).copy_(labels)

    def postprocess(self, label_map: Array, source: Geometry) -> tuple[RuleEffect, ...]:
        """Changes a label map on the grid of the source as the rules change that of the model grid."""
        changes = postprocess(self._label_map.numpy(), self.rules, self.names, self.grid.voxel_volume_ml)
        if changes:
            label_map[:] = restore_label_map(self._label_map, self.grid, source, self.back).numpy()
        return changes


def _maps(name: str, record: ModelRecord, source: Geometry) -> Maps:
    orientation, decoding = record.plan.grid.oriented(source).orientation, decoding_of(record.plan)
    if name == UNCERTAINTY:
        return Maps(["entropy"], decoding.entropy, source, orientation)
    unions = record.labels.unions
    return Maps(list(unions), partial(decoding.probabilities, unions=unions), source, orientation)
