"""What a training and its final validation take: tried with a few steps, windows or one case, and reckoned up."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import PlainSerializer

from medseg.dataset.patches import PatchSampler
from medseg.inferers.backends import SLOW_WINDOW
from medseg.inferers.case_stream import predict_labels
from medseg.inferers.model import load_model
from medseg.inferers.quantised import can_quantise
from medseg.inferers.windows import Layout
from medseg.plan import CUSTOM_NETWORK
from medseg.prediction.case_predictor import CasePredictor
from medseg.progress import counted, warn
from medseg.records import Record
from medseg.training.callbacks.model import LAST, SaveModel
from medseg.training.quantisation import quantising_seconds
from medseg.training.run import Run
from medseg.training.trainer import Trainer

# Steps that are timed, after as many to warm up.
STEPS = 2
# Final validation predicts each case twice: to choose between best and last, and from its files, mask and all.
VALIDATIONS = 2
# It takes longer than was tried, when the machine is busy: a reserve for max_time.
RESERVE = 1.25
# At least this part of max_time is spent on training; where validation would take more than the rest, some of the
# held-back cases are left out.
LEAST_TRAINING_SHARE = 0.5
# Held-back cases on which the settings of prediction are compared: fewer say too little.
LEAST_COMPARED, MOST_COMPARED = 3, 10
# Times that each of these is predicted for it: as before, and by settings that take less.
COMPARISONS = 2
# At most this part of max_time is spent on comparing, and as much on quantising.
COMPARING_SHARE = 0.05


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

    @classmethod
    def of(
        cls, runs: Sequence[Run], trainer: Trainer, step_seconds: float, window_seconds: float, run_bytes: int
    ) -> "Forecast":
        """Returns what runs will take, by what one of them was seen to.

        Args:
            runs: One, or one a fold.
            trainer: Of one of them.
            step_seconds: Of one step.
            window_seconds: Of one window of validation.
            run_bytes: Of a run's folder, without its masks.
        """
        max_time, total = runs[0].config.training.max_time, len(runs) * trainer.clock.total_steps
        shares = []
        for run in runs:  # max_time is a fold's share of it
            windows = windows_by_case(run, trainer)
            seconds = {case_id: n * window_seconds for case_id, n in windows.items()}
            shares.append(TimeShares.of(max_time, seconds, Fitting.of(run, trainer, window_seconds)))
        masks = sum(run.dataset.label_map(case_id).nbytes for run in runs for case_id in run.split.validation)
        return cls(
            steps=total if max_time is None else None,
            step_seconds=step_seconds,
            training_seconds=total * step_seconds if max_time is None else sum(each.training for each in shares),
            validation_seconds=sum(each.validation for each in shares),
            peak_memory_mb=trainer.device.peak_memory_mb(),
            disk_mb=(len(runs) * run_bytes + masks) / 2**20,
        )


@dataclass(frozen=True)
class TimeShares:
    """How ``training.max_time`` is shared between training and validation.

    Attributes:
        training: Seconds; infinite where there is no ``max_time``.
        validation: Seconds that the rest is expected to take, without the reserve.
        cases: The held-back cases that are validated.
        compared: Those of them on which the settings of prediction are compared.
        comparing: Seconds that this may take, quantising included; infinite where there is no ``max_time``.
    """

    training: float
    validation: float
    cases: tuple[str, ...]
    compared: tuple[str, ...] = ()
    comparing: float = 0.0

    @classmethod
    def of(cls, max_time: float | None, seconds: Mapping[str, float], fitting: "Fitting | None" = None) -> "TimeShares":
        """Shares the time out.

        Args:
            max_time: Seconds, of all of the run; None where it may take what it takes.
            seconds: Of the prediction of each held-back case.
            fitting: What of prediction is chosen at the end; None: nothing.
        """

        def all_of(cases: Sequence[str]) -> float:
            return sum(seconds[case_id] for case_id in cases)

        cases, limit = tuple(seconds), float("inf") if max_time is None else max_time
        most = (1 - LEAST_TRAINING_SHARE) * limit / RESERVE
        while len(cases) > 1 and VALIDATIONS * all_of(cases) > most:
            cases = _evenly(tuple(seconds), len(cases) - 1)
        validation = VALIDATIONS * all_of(cases)
        compared: tuple[str, ...] = ()
        comparing = quantising = 0.0
        if fitting is not None and len(cases) >= LEAST_COMPARED:
            compared = _evenly(cases, min(MOST_COMPARED, len(cases)))
            while len(compared) > LEAST_COMPARED and COMPARISONS * all_of(compared) > COMPARING_SHARE * limit:
                compared = _evenly(cases, len(compared) - 1)
            comparing = COMPARISONS * all_of(compared)
            quantising = fitting.quantising + all_of(compared) if fitting.quantising else 0.0
        if comparing > COMPARING_SHARE * limit:
            compared, comparing, quantising = (), 0.0, 0.0
        comparing += quantising if quantising <= COMPARING_SHARE * limit else 0.0
        taken = RESERVE * min(most, validation + comparing)
        allowed = limit if max_time is None and compared else comparing
        return cls(limit - taken, validation + comparing, cases, compared, allowed)


@dataclass(frozen=True)
class Fitting:
    """What of prediction is chosen at the end of training.

    Attributes:
        quantising: Seconds that it takes to quantise the network; 0 where that is not tried.
    """

    quantising: float = 0.0

    @classmethod
    def of(cls, run: Run, trainer: Trainer, window_seconds: float) -> "Fitting | None":
        """Returns what is chosen for a run, None where nothing is.

        Args:
            run: Its settings.
            trainer: Its network, and where that runs.
            window_seconds: Of one window of validation.
        """
        held_back_alone = not set(run.split.validation) & set(run.split.training)
        if not run.config.training.fit_inference or not held_back_alone:
            return None
        if window_seconds < SLOW_WINDOW or not can_quantise(trainer.average, trainer.device):
            return cls()
        return cls(quantising_seconds(run.plan.network_patch, window_seconds))


def shares_of_time(run: Run, trainer: Trainer) -> TimeShares:
    """Returns how ``training.max_time`` is shared out; all of a run that has none is for training.

    One case is predicted now, which also shows early whether prediction works; the others take longer or shorter by
    their number of voxels.
    """
    held_back, max_time = run.split.validation, run.config.training.max_time
    if max_time is None:  # nothing is tried, since nothing is left out
        return TimeShares.of(None, dict.fromkeys(held_back, 0.0), Fitting.of(run, trainer, 0.0))
    case, *_ = run.dataset.source_cases(held_back[:1])
    SaveModel(run).save(trainer, LAST)
    own = trainer.average if run.plan.architecture.name == CUSTOM_NETWORK else None
    model = load_model(run.folder / LAST, trainer.device, network=own)
    predictor = CasePredictor(model, None, run.config.inference)
    predictor.predict(case)  # the first one warms up
    tried = _seconds(lambda: predictor.predict(case))
    voxels = {case_id: prod(run.dataset.model_grid(case_id).shape) for case_id in held_back}
    seconds = {case_id: tried * n / voxels[held_back[0]] for case_id, n in voxels.items()}
    shares = TimeShares.of(max_time, seconds, Fitting.of(run, trainer, window_seconds(run, trainer)))
    if len(shares.cases) < len(held_back):
        whole = RESERVE * VALIDATIONS * sum(seconds.values())
        warn(
            f"The validation of {counted(len(held_back), 'case')} would take about {whole:.0f} s of {max_time:.0f} s, "
            f"so {len(shares.cases)} of them are validated; a longer --max-time validates all"
        )
    return shares


def _evenly(cases: Sequence[str], n: int) -> tuple[str, ...]:
    """Returns so many of the cases, from the first on to near the end."""
    return tuple(cases[i * len(cases) // n] for i in range(n))


def step_seconds(trainer: Trainer, sampler: PatchSampler) -> float:
    """Returns the seconds of a step of training, of some that are done now."""
    total = trainer.clock.total_steps
    batches = sampler.prefetched(0)

    def steps(first: int) -> None:
        trainer.run_steps(batches, first, first + STEPS, lambda step: step / max(total, 2 * STEPS + 1))

    steps(0)  # the first ones warm up
    seconds = _seconds(lambda: steps(STEPS)) / STEPS
    batches.close()
    return seconds


def window_seconds(run: Run, trainer: Trainer) -> float:
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


def windows_by_case(run: Run, trainer: Trainer) -> dict[str, int]:
    """Returns the number of windows of each held-back case."""
    config, network = run.config.inference, trainer.average
    shapes = {case_id: run.dataset.model_grid(case_id).shape for case_id in run.split.validation}
    return {case_id: Layout.of(network, run.plan, shape, config).n_windows for case_id, shape in shapes.items()}


def bytes_of_run(run: Run, trainer: Trainer) -> int:
    """Returns the bytes of a run's folder, once it has trained: it writes a checkpoint and a model now.

    There will be two of each: the last state and a good one, the best model and the last.
    """
    trainer.save(run.checkpoint)
    SaveModel(run).save(trainer, LAST)
    return 2 * sum(path.stat().st_size for path in Path(run.folder).rglob("*") if path.is_file())


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
