"""A dry run of training: a few steps, a window of every kind, a checkpoint; then what the whole will take."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import PlainSerializer

from medseg.config import Config
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.inferers.case_stream import predict_labels
from medseg.inferers.windows import Layout
from medseg.records import Record
from medseg.training.callbacks.model import LAST, SaveModel
from medseg.training.run import Run, refuse_to_overwrite, start_runs
from medseg.training.run_trainer import tell, trainer_of
from medseg.training.trainer import Trainer

STEPS = 2
# Final validation predicts each case twice: to choose between best and last, and from its files, mask and all.
VALIDATIONS = 2


def _rounded(digits: int) -> PlainSerializer:
    return PlainSerializer(lambda value: round(value, digits), return_type=float, when_used="json")


class Forecast(Record):
    """What a run will take, or all folds together; JSON has it rounded.

    Attributes:
        steps: Of training; None where there are as many as there is time for.
        step_seconds: Of one step.
        training_seconds: Of all steps.
        validation_seconds: At the end.
        peak_memory_mb: Of the GPU, or of the process.
        disk_mb: Of the run.
    """

    steps: int | None
    step_seconds: Annotated[float, _rounded(4)]
    training_seconds: Annotated[float, _rounded(1)]
    validation_seconds: Annotated[float, _rounded(1)]
    peak_memory_mb: Annotated[float, _rounded(1)]
    disk_mb: Annotated[float, _rounded(1)]

    def as_json(self) -> dict[str, Any]:
        """Returns what ``medseg train --dry-run --json`` prints."""
        return self.model_dump(mode="json")


def forecast(
    prepared: str | Path,
    output: str | Path,
    *,
    dims: Literal[2, 3] | None = None,
    config: Config | None = None,
    device: str = "auto",
) -> Forecast:
    """Returns what ``train`` with the same arguments will take. Nothing is written to ``output``.

    Raises:
        MedsegError: What ``train`` would raise before it begins, and what its first steps would.
    """
    config = config or Config()
    refuse_to_overwrite(Path(output))
    dataset, chosen = PreparedDataset(Path(prepared)), choose_device(device, config.training.precision)
    with tempfile.TemporaryDirectory() as folder:
        runs = start_runs(Path(folder) / "run", dataset, dims, config, chosen)
        trainer, sampler = trainer_of(runs[0], chosen)
        tell(runs[0], trainer)
        chosen.forget_peak()
        total = trainer.clock.total_steps
        batches = sampler.prefetched(0)

        def steps(first: int) -> None:
            trainer.run_steps(batches, first, first + STEPS, lambda step: step / max(total, 2 * STEPS + 1))

        steps(0)  # the first ones warm up
        step_seconds = _seconds(lambda: steps(STEPS)) / STEPS
        batches.close()
        window_seconds = _window_seconds(runs[0], trainer)
        trainer.save(runs[0].checkpoint)
        SaveModel(runs[0]).save(trainer, LAST)
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    validation = sum(VALIDATIONS * _windows(trainer, run) * window_seconds for run in runs)
    max_time = config.training.max_time
    trained = len(runs) * total * step_seconds if max_time is None else max(max_time - validation, 0.0)
    checkpoint_and_models = 2 * written  # a good state beside the last one, and the best model
    masks = sum(dataset.label_map(case_id).nbytes for run in runs for case_id in run.split.validation)
    return Forecast(
        steps=len(runs) * total if max_time is None else None,
        step_seconds=step_seconds,
        training_seconds=trained,
        validation_seconds=validation,
        peak_memory_mb=chosen.peak_memory_mb(),
        disk_mb=(len(runs) * checkpoint_and_models + masks) / 2**20,
    )


def _window_seconds(run: Run, trainer: Trainer) -> float:
    """Returns the seconds of one window, by the way that validation goes."""
    plan, config = run.plan, run.config.inference
    channels = len(run.dataset.record.channels)
    # Noise: windows of one value are not predicted each.
    image = torch.from_numpy(np.random.default_rng(0).random((channels, *plan.patch_size), dtype=np.float32))
    average = trainer.average

    def predict() -> None:
        predict_labels(average, image, plan, config, trainer.device)

    predict()  # the first one warms up
    return _seconds(predict)


def _windows(trainer: Trainer, run: Run) -> int:
    """Returns the number of windows of all held-back cases."""
    overlap, network = run.config.inference.overlap, trainer.average
    shapes = (run.dataset.model_grid(case_id).shape for case_id in run.split.validation)
    return sum(Layout.of(network, run.plan, shape, overlap).n_windows for shape in shapes)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
