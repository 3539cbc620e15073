"""From a prepared case to its label map: a first look where asked for, windows, and back to the source grid."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from medseg.config import InferenceConfig
from medseg.decoding import decoding_of
from medseg.inferers.accumulator import Slab
from medseg.inferers.case_stream import CaseStream, body_of
from medseg.inferers.first_look import MARGIN_MM, first_look
from medseg.inferers.memory_plan import MemoryPlan
from medseg.inferers.predictor import Predictor
from medseg.transforms.model_grid import ModelGridRule
from medseg.transforms.prepared import Prepared
from medseg.transforms.restoring import Observer, Restoring
from medseg.volume import Array


class Watcher(Protocol):
    """Of logits on the model grid."""

    def take(self, slab: Slab) -> None:
        """Takes the next slab."""


@dataclass(frozen=True)
class SegmentationResult:
    """A segmented case; its ``label_map`` is ``(x, y, z)``, uint8, in network labels on the grid of the source."""

    label_map: Array
    windows: int  # of the image
    skipped_windows: int  # of them, those that were answered without asking the network
    warnings: tuple[str, ...] = ()
    network_seconds: float = 0.0  # until all windows were answered; the rest went into restoring


def segment(
    predictor: Predictor,
    prepared: Prepared,
    config: InferenceConfig,
    memory_plan: MemoryPlan | None = None,
    observers: Sequence[Observer] = (),
    watchers: Sequence[Watcher] = (),
) -> SegmentationResult:
    """Returns the label map of a case, with what was skipped and how long it took.

    Args:
        predictor: The network of a plan.
        prepared: The image on the model grid, and both grids.
        config: The settings of the windows.
        memory_plan: None where memory is no concern.
        observers: See each part of the label map when it is finished, with its logits if they ask for them.
        watchers: See the logits on the model grid.

    Raises:
        MedsegError: Memory is too little for a single window.
    """
    start, restoring_seconds = time.perf_counter(), 0.0
    region, warnings = None, []
    if config.first_look:
        look = first_look(predictor, prepared.image, config, memory_plan)
        region = look.mask
        all_of_it = f"first look: {look.reason}, so everything was segmented finely"
        near = f"first look: only what lies within about {MARGIN_MM:g} mm of what it found was segmented finely"
        warnings.append(all_of_it if region is None else near)
    plan = predictor.plan
    stream = CaseStream(
        predictor, prepared.image, config, memory_plan, body_of(prepared.image, plan.grid, config), region
    )
    axis, decoding = stream.layout.axis, decoding_of(plan)
    nearest = ModelGridRule.of(plan.grid).nearest_axes_back(plan.grid.oriented(prepared.source))
    restoring = Restoring(prepared.geometry, prepared.source, axis, observers, decoding, nearest)
    for slab in stream.slabs():
        for watcher in watchers:
            watcher.take(slab)
        finished = time.perf_counter()
        restoring.take(slab.logits, slab.start)
        restoring_seconds += time.perf_counter() - finished
        del slab  # before the next row is predicted
    n, seconds = stream.layout.n_windows, time.perf_counter() - start - restoring_seconds
    return SegmentationResult(restoring.label_map, n, n - stream.asked, tuple(warnings), seconds)
