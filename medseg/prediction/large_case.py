"""A case that is predicted block by block: planned, its blocks given out, and what they make put together."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from medseg.dataset.cases import Case
from medseg.errors import ConfigError, MedsegError, SourceError
from medseg.evaluation.predictions_json import Predictions
from medseg.files import ensure_folder, remove
from medseg.inferers.body import solid_blocks, tells_air
from medseg.inferers.coarse_mask import block_step
from medseg.inferers.memory_plan import MemoryLimit, in_units
from medseg.inferers.model import Model
from medseg.io.declared_size import memory_of_machine
from medseg.io.lazy_volume import KINDS, LazyVolume, is_compressed, open_lazily, unpacked_nifti
from medseg.io.ome_zarr.writer import LabelStore
from medseg.io.read import read_geometry
from medseg.outcome import Outcome, attempt
from medseg.prediction.block_edges import CHUNK, demand_of
from medseg.prediction.block_on_worker import BlockTask, predict_block, predict_block_on_worker
from medseg.prediction.block_result import finished_case
from medseg.prediction.block_work import FOLDER, BlockPlan, BlockRecord, BlockWork, blocks_of
from medseg.prediction.case_on_worker import RemotePredictor
from medseg.prediction.case_predictor import CasePredictor
from medseg.prediction.case_reading import how_to_give
from medseg.prediction.predictions_file import MADE_BY, stamps
from medseg.prediction.result import Prediction
from medseg.progress import counted, say, track
from medseg.transforms.block_preparation import BlockPreparation, check_in_blocks
from medseg.transforms.value_statistics import boxes_of, image_statistics
from medseg.version import VERSION
from medseg.volume import Array

# Of the memory of the machine: what a case may take before it is predicted in blocks, and what a block may, where
# nobody says a limit.
PART_OF_MACHINE = 0.75
# Bytes a voxel that a whole case takes, beside its windows: see ``memory_plan``.
WHOLE_BYTES = 28
BLOCKS_OF_WORKERS = 16  # at least, so that several workers have some each
BODY_BLOCKS = 64  # of the mask of the body, along each axis of what is prepared for it at a time


@dataclass
class LargeCases:
    """Predicts cases block by block, here or on workers.

    Attributes:
        predictor: The model, and what is asked.
        call: What predictions.json says of all cases.
        remote: The workers; None: here.
    """

    predictor: CasePredictor
    call: Predictions
    remote: RemotePredictor | None = None
    _limits: dict[str, MemoryLimit] = field(default_factory=dict)

    def takes(self, case: Case) -> bool:
        """Returns whether a case is predicted block by block: as the user says, or because it fits into no memory."""
        options, model = self.predictor.options, self.predictor.model
        if options.blocks is not None or len(case.images) > 1 or case.images[0].kind not in KINDS:
            return bool(options.blocks)
        if not isinstance(model, Model):
            return False
        try:
            grid = read_geometry(replace(case.images[0], frames=()))
            check_in_blocks(model.record.plan.grid, grid)
            if options.memory_limits is None:
                whole = WHOLE_BYTES * int(np.prod([float(n) for n in grid.shape])) * len(model.record.channels)
                return whole > PART_OF_MACHINE * memory_of_machine()
            limit = options.memory_limits.of(model, self.predictor.config)
        except MedsegError:  # told where the case is read
            return False
        if all(n <= CHUNK for n in grid.shape):  # no larger than the smallest block
            return False
        try:
            limit.plan_for(model, grid, len(model.record.channels), self.predictor.config)
        except MedsegError:
            return True
        return False

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Outcome[Case, Prediction]]:
        """Yields the outcomes of cases, one after the other."""
        for case in cases:
            yield attempt(self.predict, case)

    def predict(self, case: Case) -> Prediction:
        """Returns the prediction of a case whose blocks are predicted where they are missing.

        Raises:
            MedsegError: The case cannot be predicted block by block, or some blocks failed.
        """
        start = time.perf_counter()
        model = self._model_for(case)
        folder = self.predictor.folder or (self.predictor.file or Path()).absolute().parent
        work = BlockWork(ensure_folder(folder / FOLDER / case.case_id))
        source = unpacked_nifti(case.images[0], work.folder) if is_compressed(case.images[0]) else case.images[0]
        volume = open_lazily(source)
        if volume.n_channels != len(model.record.channels):
            raise SourceError(
                f"{source.path}: number of channels is {volume.n_channels}, the model was trained on "
                f"{len(model.record.channels)}; {how_to_give(model.record.channels, case.images)}"
            )
        check_in_blocks(model.record.plan.grid, volume.geometry)
        plan = self._planned(case, work, volume, model)
        read_seconds = time.perf_counter() - start
        records = self._blocks(BlockTask(work, source), plan, model)
        prediction = finished_case(case, self.predictor, work, plan, records)
        remove(work.folder)
        for empty in (work.folder.parent, folder / FOLDER):
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()
        return replace(prediction, stages={"read": read_seconds, **prediction.stages})

    def _model_for(self, case: Case) -> Model:
        model, options = self.predictor.model, self.predictor.options
        why = ""
        if not isinstance(model, Model):
            why = "several members predict it"
        elif model.record.plan.objects is not None:
            why = "the model tells objects apart"
        elif len(case.images) > 1 or case.missing:
            why = "its channels lie in several files; write them as channels of one OME-Zarr"
        elif options.extras or options.reports:
            why = f"{', '.join((*options.extras, *options.reports))} are asked for"
        elif self.predictor.folder is None and self.predictor.file is None:
            why = "there is no output that blocks are written to"
        if why or not isinstance(model, Model):
            raise ConfigError(f"{case.case_id}: cannot be predicted block by block: {why}")
        return model

    def _planned(self, case: Case, work: BlockWork, volume: LazyVolume, model: Model) -> BlockPlan:
        """Returns the plan of the blocks: that of an earlier call, where it asked for the same, or a new one."""
        made_by = self.call.model_dump_json(include=set(MADE_BY))
        digest = hashlib.sha256(made_by.encode()).hexdigest()
        before = work.plan()
        same = (VERSION, digest, stamps(case), volume.geometry.shape)
        if before is not None and (before.medseg, before.model, before.images, before.shape) == same:
            return before
        for name in work.folder.iterdir():
            if name.name != "unpacked.nii":
                remove(name)
        say(f"{case.case_id}: looking at {volume.geometry.shape} voxels, block by block")
        grid = model.record.plan.grid
        statistics = image_statistics(volume.read, volume.geometry.shape, grid.normalization)
        preparation = BlockPreparation(volume, grid, statistics)
        limits = self.predictor.options.memory_limits
        limit = None if limits is None else limits.max_memory
        window = MemoryLimit.measured(model, self.predictor.config, limit or memory_of_machine()).window
        axes = [int(axis) for axis, _ in preparation.change]
        demand, memory_plan = demand_of(
            model, self.predictor.config, (volume.geometry, preparation.model), axes, window
        )
        edges, memory_plan = demand.edges(limit, memory_plan, 1 if self.remote is None else BLOCKS_OF_WORKERS)
        say(
            f"{case.case_id}: in blocks of {'×'.join(map(str, edges))} voxels, each of which takes up to "
            f"{in_units(demand.forecast(edges, memory_plan))} of memory"
        )
        has_body = self.predictor.config.skip_air and tells_air(grid)
        if has_body:
            np.save(work.body, _solid(preparation, grid.spacing), allow_pickle=False)
        LabelStore.create(work.store, volume.geometry, model.record.labels, CHUNK)
        plan = BlockPlan(
            medseg=VERSION,
            model=digest,
            images=stamps(case),
            shape=volume.geometry.shape,
            edges=edges,
            batch_size=memory_plan.batch_size,
            statistics=statistics,
            has_body=has_body,
        )
        work.write_plan(plan)
        return plan

    def _blocks(self, task: BlockTask, plan: BlockPlan, model: Model) -> list[BlockRecord]:
        """Returns what became of all blocks, once those are predicted that are missing."""
        n = len(blocks_of(plan))
        done = {i: record for i in range(n) if (record := task.work.record(i)) is not None}
        if done:
            say(f"{counted(len(done), 'block')} of {n} done before")
        missing = [i for i in range(n) if i not in done]
        failed: list[Outcome[int, BlockRecord]] = []
        for outcome in track(self._outcomes(task, missing, model), "Predicting blocks", len(missing)):
            if outcome.result is None:
                failed.append(outcome)
            else:
                done[outcome.item] = outcome.result
        if failed:
            raise SourceError(
                f"{len(failed)} of {n} blocks failed ({failed[0].error}); the others are done, and the same call goes "
                "on with these"
            )
        return [done[i] for i in range(n)]

    def _outcomes(self, task: BlockTask, numbers: Sequence[int], model: Model) -> Iterator[Outcome[int, BlockRecord]]:
        if self.remote is None:
            predict = partial(predict_block, model, self.predictor.config, task)
            for number in numbers:
                yield attempt(predict, number)
            return
        request = self.remote.request.with_backend(self.call.backend)
        predict_there = partial(predict_block_on_worker, request, task)
        for _, outcome in self.remote.workers.outcomes(predict_there, numbers):
            yield outcome


def _solid(preparation: BlockPreparation, spacing: tuple[float, float, float]) -> Array:
    """Returns which blocks of the coarse mask of a case hold some voxels that are no air."""
    shape, step = preparation.model.shape, block_step(spacing)
    solid = np.zeros([-(-n // s) for n, s in zip(shape, step, strict=True)], dtype=bool)
    for box in boxes_of(shape, (BODY_BLOCKS * step[0], BODY_BLOCKS * step[1], BODY_BLOCKS * step[2])):
        part = tuple(slice(p.start // s, -(-p.stop // s)) for p, s in zip(box, step, strict=True))
        solid[part] = solid_blocks(preparation.image(box), preparation.grid)
    return solid
