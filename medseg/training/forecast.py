"""What a training and its final validation take: a few steps and a window are tried, and reckoned up."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import PlainSerializer

from medseg.dataset.patches import PatchSampler
from medseg.records import Record
from medseg.training.callbacks.model import SaveModel
from medseg.training.run import Run
from medseg.training.run_record import LAST
from medseg.training.time_shares import (
    Fitting,
    TimeShares,
    clicking_share,
    seconds_of,
    share_on_the_way,
    windows_by_case,
)
from medseg.training.trainer import Trainer

# Steps to warm up; after them some are timed, until they took these seconds, or are so many.
WARM_UP = 2
TRIED_SECONDS, MOST_STEPS = 3.0, 20


def _rounded(digits: int) -> PlainSerializer:
    return PlainSerializer(lambda value: round(value, digits), return_type=float, when_used="json")


class Forecast(Record):
    """What a run will take, or all folds together; JSON has it rounded.

    Attributes:
        steps: Of training; None where there are as many as there is time for.
        step_seconds: Of one step.
        training_seconds: Of all steps, with the validations on the way.
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
            share = share_on_the_way(run, trainer)
            fitting, clicking = Fitting.of(run, trainer, window_seconds), clicking_share(run)
            shares.append(TimeShares.of(max_time, seconds, fitting, share, clicking))
        masks = sum(run.dataset.label_map(case_id).nbytes for run in runs for case_id in run.split.validation)
        return cls(
            steps=total if max_time is None else None,
            step_seconds=step_seconds,
            training_seconds=sum(
                _seconds_of_steps(run, each.once, trainer.clock.total_steps * step_seconds)
                if max_time is None
                else each.training
                for run, each in zip(runs, shares, strict=True)
            ),
            validation_seconds=sum(each.validation for each in shares),
            peak_memory_mb=trainer.device.peak_memory_mb(),
            disk_mb=(len(runs) * run_bytes + masks) / 2**20,
        )


def _seconds_of_steps(run: Run, once: float, seconds: float) -> float:
    """Returns the seconds of a training by epochs, with its validations: one after the first epoch, and then by their
    share of the time.

    Args:
        run: Its settings.
        once: Seconds of a validation.
        seconds: Of all steps.
    """
    settings = run.config.training
    return seconds + min(settings.epochs * once, once + settings.validation_share * seconds)


def step_seconds(trainer: Trainer, sampler: PatchSampler) -> float:
    """Returns the seconds of a step of training, the median of some that are done now."""
    total = max(trainer.clock.total_steps, WARM_UP + MOST_STEPS + 1)
    batches = sampler.prefetched(0)

    def step(number: int) -> float:
        return seconds_of(lambda: trainer.run_steps(batches, number, number + 1, lambda n: n / total))

    for number in range(WARM_UP):
        step(number)
    taken: list[float] = []
    while sum(taken) < TRIED_SECONDS and len(taken) < MOST_STEPS:
        taken.append(step(WARM_UP + len(taken)))
    batches.close()
    return median(taken)


def bytes_of_run(run: Run, trainer: Trainer) -> int:
    """Returns the bytes of a run's folder, once it has trained: it writes a checkpoint and a model now.

    There will be two of each: the last state and a good one, the best model and the last.
    """
    trainer.save(run.checkpoint)
    SaveModel(run).save(trainer, LAST)
    return 2 * sum(path.stat().st_size for path in Path(run.folder).rglob("*") if path.is_file())
