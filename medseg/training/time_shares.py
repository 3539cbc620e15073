"""How a run's time is shared between training and what comes after it: some cases are tried, the rest reckoned up."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch

from medseg.architecture import CUSTOM_NETWORK
from medseg.inferers.backends import SLOW_WINDOW
from medseg.inferers.case_stream import predict_labels
from medseg.inferers.model import Model, load_model
from medseg.inferers.quantised import can_quantise
from medseg.inferers.windows import Layout
from medseg.parallel import run_in_stages
from medseg.prediction.case_predictor import CasePredictor
from medseg.progress import counted, say, warn
from medseg.training.callbacks.model import SaveModel
from medseg.training.quantisation import quantising_seconds
from medseg.training.run import Run
from medseg.training.run_record import LAST
from medseg.training.trainer import Trainer

# Final validation predicts each case twice: to choose between best and last, and from its files, mask and all. Where
# there is time for fewer than so many validations on the way, none is made, and the last weights are taken.
VALIDATIONS = 2
LEAST_ON_THE_WAY = 3
# It takes longer than was tried, when the machine is busy: a reserve for max_time.
RESERVE = 1.25
# Seconds for the imports before and the report afterwards, and the most of max_time that is kept for them.
AROUND, MOST_AROUND = 6.0, 0.02
# Held-back cases are tried for about this part of max_time, and so many at most; one that takes longer is tried once.
TRIED_SHARE, MOST_TRIED = 0.01, 8
# At least this part of max_time is spent on training; where validation would take more than the rest, some of the
# held-back cases are left out.
LEAST_TRAINING_SHARE = 0.5
# Held-back cases on which the settings of prediction are compared: fewer say too little.
LEAST_COMPARED, MOST_COMPARED = 3, 10
# Times that each of these is predicted for it: as before, and by settings that take less.
COMPARISONS = 2
# At most this part of max_time is spent on comparing, and as much on quantising.
COMPARING_SHARE = 0.05
# The part of the time in which a simulated user clicks at the end, where the network takes prompts.
CLICKING_SHARE = 0.03


@dataclass(frozen=True)
class TimeShares:
    """How ``training.max_time`` is shared between training and validation.

    Attributes:
        training: Seconds; infinite where there is no ``max_time``.
        validation: Seconds that the rest is expected to take, without the reserve.
        cases: The held-back cases that are validated.
        compared: Those of them on which the settings of prediction are compared.
        comparing: Seconds that this may take, quantising included; infinite where there is no ``max_time``.
        once: Seconds of one validation of the cases on the way; infinite where none is made before the end.
    """

    training: float
    validation: float
    cases: tuple[str, ...]
    compared: tuple[str, ...] = ()
    comparing: float = 0.0
    once: float = 0.0

    @classmethod
    def of(
        cls,
        max_time: float | None,
        seconds: Mapping[str, float],
        fitting: "Fitting | None" = None,
        share: float = float("inf"),
        clicking: float = 0.0,
    ) -> "TimeShares":
        """Shares the time out.

        Args:
            max_time: Seconds, of all of the run; None where it may take what it takes.
            seconds: Of the prediction of each held-back case.
            fitting: What of prediction is chosen at the end; None: nothing.
            share: Most of the time that validation may take on the way.
            clicking: The part of the time that is left for clicks at the end.
        """

        def all_of(cases: Sequence[str]) -> float:
            return sum(seconds[case_id] for case_id in cases)

        def validations(cases: Sequence[str]) -> int:
            return VALIDATIONS if LEAST_ON_THE_WAY * all_of(cases) <= share * limit else 1

        cases, limit = tuple(seconds), float("inf") if max_time is None else max_time
        most = (1 - LEAST_TRAINING_SHARE) * limit / RESERVE
        while len(cases) > 1 and validations(cases) * all_of(cases) > most:
            cases = _evenly(tuple(seconds), len(cases) - 1)
        validation = validations(cases) * all_of(cases)
        once = all_of(cases) if validations(cases) == VALIDATIONS else float("inf")
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
        taken = RESERVE * min(most, validation + comparing) + min(AROUND, MOST_AROUND * limit)
        taken += 0.0 if max_time is None else clicking * max_time
        allowed = limit if max_time is None and compared else comparing
        return cls(limit - taken, validation + comparing, cases, compared, allowed, once)


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
        if not run.config.training.fit_inference or not _is_held_back(run):
            return None
        if window_seconds < SLOW_WINDOW or not can_quantise(trainer.average, trainer.device):
            return cls()
        return cls(quantising_seconds(run.plan.network_patch, window_seconds))


def shares_of_time(run: Run, trainer: Trainer) -> TimeShares:
    """Returns how ``training.max_time`` is shared out; all of a run that has none is for training.

    Some cases are predicted now, which also shows early whether prediction works; the others take longer or shorter by
    their number of windows.
    """
    held_back, max_time = run.split.validation, run.config.training.max_time
    if max_time is None:  # nothing is tried, since nothing is left out
        return TimeShares.of(None, dict.fromkeys(held_back, 0.0), Fitting.of(run, trainer, 0.0))
    SaveModel(run).save(trainer, LAST)
    own = trainer.average if run.plan.architecture.name == CUSTOM_NETWORK else None
    model = load_model(run.folder / LAST, trainer.device, network=own)
    windows = windows_by_case(run, trainer)
    pace = _seconds_a_window(run, model, windows, max_time)
    seconds = {case_id: pace * n for case_id, n in windows.items()}
    fitting = Fitting.of(run, trainer, window_seconds(run, trainer))
    shares = TimeShares.of(max_time, seconds, fitting, share_on_the_way(run, trainer), clicking_share(run))
    if not isfinite(shares.once):
        say("Cases are validated at the end only: on the way that would take more than its share of the time")
    if len(shares.cases) < len(held_back):
        whole = RESERVE * sum(seconds.values())
        warn(
            f"The validation of {counted(len(held_back), 'case')} would take about {whole:.0f} s of {max_time:.0f} s, "
            f"so {len(shares.cases)} of them are validated; a longer --max-time validates all"
        )
    return shares


def _seconds_a_window(run: Run, model: Model, windows: Mapping[str, int], max_time: float) -> float:
    """Returns the seconds of a window of held-back cases, with all that is done to a case divided among its windows."""
    held_back = run.split.validation
    with tempfile.TemporaryDirectory() as folder:
        predictor = CasePredictor(model, Path(folder), run.config.inference)
        tried = held_back[:1]
        seconds = seconds_of(lambda: predictor.predict(run.dataset.source_cases(tried)[0]))
        if seconds < TRIED_SHARE * max_time:  # the first one warms up; then side by side, as at the end
            tried = _evenly(held_back, min(len(held_back), MOST_TRIED, max(1, int(TRIED_SHARE * max_time / seconds))))
            cases = run.dataset.source_cases(tried)
            stages = run_in_stages(predictor.read, predictor.segment, predictor.write, cases)
            seconds = seconds_of(lambda: list(stages))
    return seconds / sum(windows[case_id] for case_id in tried)


def clicking_share(run: Run) -> float:
    """Returns the part of the time in which a simulated user clicks at the end of a run; 0 where none does."""
    return CLICKING_SHARE if run.plan.prompts is not None and _is_held_back(run) else 0.0


def _is_held_back(run: Run) -> bool:
    """Returns whether the cases that validate are not trained on."""
    return not set(run.split.validation) & set(run.split.training)


def share_on_the_way(run: Run, trainer: Trainer) -> float:
    """Returns the most of the time that validation may take on the way; infinite where it has to be made.

    That is where the run ends by its patience, and where it goes on with a model that was validated.
    """
    settings = run.config.training
    has_to = settings.patience is not None or trainer.state.best_score is not None
    return float("inf") if has_to else settings.validation_share


def _evenly(cases: Sequence[str], n: int) -> tuple[str, ...]:
    """Returns so many of the cases, from the first on to near the end."""
    return tuple(cases[i * len(cases) // n] for i in range(n))


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
    return seconds_of(predict)


def windows_by_case(run: Run, trainer: Trainer) -> dict[str, int]:
    """Returns the number of windows of each held-back case."""
    config, network = run.config.inference, trainer.average
    shapes = {case_id: run.dataset.model_grid(case_id).shape for case_id in run.split.validation}
    return {case_id: Layout.of(network, run.plan, shape, config).n_windows for case_id, shape in shapes.items()}


def seconds_of(work: Callable[[], object]) -> float:
    """Returns the seconds that something takes, which is done now."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
