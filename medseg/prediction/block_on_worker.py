"""One block of a case: read with what lies around it, predicted, written where it belongs, and read back."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from medseg.config import InferenceConfig
from medseg.decoding import decoding_of
from medseg.errors import SourceError
from medseg.inferers.block_stream import BlockLayout, BlockStream, within
from medseg.inferers.body import body_of_solid
from medseg.inferers.coarse_mask import CoarseMask
from medseg.inferers.confidence import Confidence
from medseg.inferers.memory_plan import MemoryPlan
from medseg.inferers.model import Model
from medseg.inferers.predictor import Predictor
from medseg.inferers.windows import Layout
from medseg.io.lazy_volume import open_lazily
from medseg.io.ome_zarr.check import different_voxels
from medseg.io.ome_zarr.writer import LabelStore
from medseg.io.source import ImageSource
from medseg.plan import Grid
from medseg.prediction.block_work import PLAN, BlockPlan, BlockRecord, BlockWork, blocks_of, places_of
from medseg.prediction.case_on_worker import kept_predictor
from medseg.prediction.request import PredictionRequest
from medseg.transforms.block_preparation import BlockPreparation
from medseg.transforms.restoring import Restoring
from medseg.volume import Array, Box


@dataclass(frozen=True)
class BlockTask:
    """A case whose blocks are predicted.

    Attributes:
        work: The folder of its blocks.
        source: Its image, which can be read box by box.
    """

    work: BlockWork
    source: ImageSource


@dataclass(frozen=True)
class OpenedTask:
    """What all blocks of a case share, opened once in each process."""

    plan: BlockPlan
    preparation: BlockPreparation
    store: LabelStore
    body: CoarseMask | None


def predict_block_on_worker(request: PredictionRequest, task: BlockTask, number: int) -> BlockRecord:
    """Predicts a block in a worker, which loads the model by itself.

    Args:
        request: What is asked of the case.
        task: The case.
        number: Of the block.

    Raises:
        MedsegError: The block cannot be predicted.
    """
    kept, network_free = kept_predictor(request)
    with network_free:  # a limit of memory speaks of one block
        if not isinstance(kept.model, Model):
            raise SourceError(f"{task.source.path}: several members cannot predict block by block")
        return predict_block(kept.model, kept.config, task, number)


def predict_block(model: Model, config: InferenceConfig, task: BlockTask, number: int) -> BlockRecord:
    """Predicts a block, writes it into the label map, reads it back, and writes that it is done.

    Args:
        model: What predicts.
        config: The settings of the windows.
        task: The case.
        number: Of the block.

    Raises:
        SourceError: The image cannot be read.
        OutputError: The labels cannot be written.
    """
    start = time.perf_counter()
    model.device.forget_peak()
    stamp = (task.work.folder / PLAN).stat().st_mtime_ns
    opened = _opened(task, model.record.plan.grid, stamp)
    box = blocks_of(opened.plan)[number]
    prediction = _Block(model, config, opened, number)
    label_map = prediction.label_map(box)
    values = model.record.labels.decode(label_map)
    opened.store.write(box, values)
    n = len(model.record.labels.items)
    record = BlockRecord(
        number=number,
        voxels=tuple(counted_values(label_map, n).tolist()),
        boxes=_boxes(label_map, box, n),
        confidence=prediction.confidence.sums,
        windows=prediction.windows,
        asked=prediction.asked,
        different=different_voxels(task.work.store, box, values),
        network_seconds=prediction.network_seconds,
        seconds=time.perf_counter() - start,
        peak_memory_mb=model.device.peak_memory_mb(),
    )
    task.work.write(record)
    return record


class _Block:
    """The prediction of one block."""

    def __init__(self, model: Model, config: InferenceConfig, opened: OpenedTask, number: int) -> None:
        self.model, self.config, self.opened = model, config, opened
        preparation, plan = opened.preparation, model.record.plan
        self.grid = preparation.model
        self.share = preparation.share(preparation.shares(opened.plan.edges), places_of(opened.plan)[number])
        self.confidence = Confidence(model.record.labels, decoding_of(plan), self.grid.shape)
        self.windows, self.asked, self.network_seconds = 0, 0, 0.0

    def label_map(self, box: Box) -> Array:
        """Returns the network labels ``(x, y, z)`` of a box of the source."""
        preparation, plan = self.opened.preparation, self.model.record.plan
        source = preparation.volume.geometry.cropped(box)
        of_model, has_share = preparation.model_box(box), prod(part.stop - part.start for part in self.share) > 0
        there = [each for each in (of_model, self.share if has_share else None) if each is not None]
        if not there:  # cropped away
            return np.zeros(source.shape, np.uint8)
        layout = BlockLayout.around(Layout.of(self.model.network, plan, self.grid.shape, self.config), _union(there))
        predictor = Predictor(
            self.model.network, plan, self.model.device, plan.mirrored_axes if self.config.mirror else ()
        )
        stream = BlockStream(
            predictor, preparation.image, layout, MemoryPlan(self.opened.plan.batch_size), self.opened.body
        )
        restoring = None
        if of_model is not None:
            decoding = decoding_of(plan)
            restoring = Restoring(self.grid.cropped(of_model), source, layout.axis, decoding=decoding)
        start, restoring_seconds = time.perf_counter(), 0.0
        for slab in stream.slabs():
            before = time.perf_counter()
            if has_share and (own := within(slab, layout.first, self.share)) is not None:
                self.confidence.take(own)
            if restoring is not None and of_model is not None:
                part = within(slab, layout.first, of_model)
                if part is not None:
                    restoring.take(part.logits, part.start)
            del slab
            restoring_seconds += time.perf_counter() - before
        self.windows, self.asked = layout.n_windows, stream.asked
        self.network_seconds = time.perf_counter() - start - restoring_seconds
        return np.zeros(source.shape, np.uint8) if restoring is None else restoring.label_map


@lru_cache(maxsize=1)
def _opened(task: BlockTask, grid: Grid, stamp: int) -> OpenedTask:
    """Returns what blocks of a case share; ``stamp`` is that of the plan, which another call may have replaced."""
    plan = task.work.plan()
    if plan is None:
        raise SourceError(f"{task.work.folder}: the plan of its blocks is gone; call this again")
    preparation = BlockPreparation(open_lazily(task.source), grid, plan.statistics)
    body = None
    if plan.has_body:
        body = body_of_solid(np.load(task.work.body, allow_pickle=False), grid)
    return OpenedTask(plan, preparation, LabelStore(task.work.store), body)


def counted_values(label_map: Array, n: int) -> Array:
    """Returns how many voxels each network value has, from 0 to ``n``: plane by plane, since NumPy counts in int64."""
    counts: Array = np.sum([np.bincount(plane.ravel(), minlength=n + 1) for plane in label_map], axis=0)
    return counts


def _boxes(
    label_map: Array, box: Box, n: int
) -> tuple[tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None, ...]:
    """Returns where each of ``n`` network values lies in the image."""
    from scipy.ndimage import find_objects  # takes long to import

    places: Sequence[tuple[slice, ...] | None] = find_objects(label_map, max_label=n)
    return tuple(None if place is None else _ends(place, box) for place in places)


def _ends(place: tuple[slice, ...], box: Box) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    x, y, z = ((part.start + first.start, part.stop + first.start) for part, first in zip(place, box, strict=True))
    return x, y, z


def _union(boxes: Iterable[Box]) -> Box:
    x, y, z = (
        slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in zip(*boxes, strict=True)
    )
    return x, y, z
