"""Trainings that are compared with each other: each a ``medseg train`` in a process of its own."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from medseg.config import Config, load
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError, SourceError
from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.method_comparison import compare_methods
from medseg.evaluation.metrics_json import METRICS_FILE, read_metrics
from medseg.evaluation.network_comparison import NetworkComparison, TrainingOutcome, network_result
from medseg.evaluation.predictions_json import PREDICTIONS_FILE, read_predictions
from medseg.files import write_text
from medseg.inferers.model_record import read_model_record
from medseg.networks.registry import build_network
from medseg.progress import say
from medseg.report.evaluation import REPORT_FILE
from medseg.report.plots import log_rows
from medseg.training.run_record import read_run_record

LOG = "train.log"
PR_SET_PDEATHSIG = 1  # of Linux: prctl.h


@dataclass(frozen=True)
class Trial:
    """One training of a network, on one fold with one seed.

    Attributes:
        network: The name of the network in the table.
        fold: Which fifth of the cases validates.
        seed: What all randomness comes from.
        folder: The run that ``medseg train`` makes.
        config: All its settings.
    """

    network: str
    fold: int
    seed: int
    folder: Path
    config: Config

    def __str__(self) -> str:
        return f"{self.network}, fold {self.fold}, seed {self.seed}"

    @property
    def settings(self) -> Path:
        """The file of what was asked for; the run's own config.yaml may hold what training decided."""
        return self.folder / "settings.yaml"

    @property
    def is_begun(self) -> bool:
        """Whether its run was started."""
        return (self.folder / "run.json").is_file()

    @property
    def is_finished(self) -> bool:
        """Whether its run has its report, which is written last."""
        return (self.folder / REPORT_FILE).is_file()  # what is written last


def check_begun(trial: Trial, dims: int, dataset: PreparedDataset) -> None:
    """Checks that a trial goes on as it was begun.

    Raises:
        ConfigError: When it was begun with other settings, or on another dataset.
    """
    if not trial.is_begun:
        return
    record = read_run_record(trial.folder)
    before = load([trial.settings]).model_dump()
    wanted = trial.config.model_dump()
    now = {f"{s}.{k}": value for s, section in wanted.items() for k, value in section.items()}
    then = {f"{s}.{k}": value for s, section in before.items() for k, value in section.items()}
    now |= {"--dims": dims, "PREPARED": str(dataset.folder.resolve())}
    then |= {"--dims": record.plan.dims, "PREPARED": record.prepared}
    for key, value in now.items():
        if then[key] != value:
            raise ConfigError(
                f"{trial.folder} was trained with {key} {then[key]}, not {value}; choose another -o, or delete it"
            )


def train_trial(trial: Trial, prepared: Path, dims: int, device: str, plugins: Sequence[Path] = ()) -> str:
    """Trains in a process of its own, so that memory is that of this network; goes on with what was begun.

    Args:
        trial: What is trained.
        prepared: The folder of the prepared cases.
        dims: 2 or 3.
        device: By its name on the command line.
        plugins: Files that the process loads.

    Returns:
        Why it failed; empty when it did not.
    """
    say(str(trial))
    command = [sys.executable, "-m", "medseg", "train", str(prepared), "-o", str(trial.folder)]
    if trial.is_begun:
        command += ["--resume"]
    else:
        settings = write_text(trial.settings, trial.config.to_yaml())
        command += ["--dims", str(dims), "--config", str(settings)]
    command += [f"--plugin={file}" for file in plugins]
    code = run_apart([*command, "--device", device], trial.folder / LOG)
    return "" if trial.is_finished else reason_of_end(code, trial.folder / LOG)


def run_apart(command: Sequence[str], log: Path) -> int:
    """Runs a command in a process that ends with this one, and returns its exit status.

    Args:
        command: What is run.
        log: What it says is added to this file.
    """
    with log.open("ab") as file:
        # In a session of its own: Ctrl-C reaches it once, by us, and it writes a checkpoint.
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=partial(_end_with, os.getpid()) if sys.platform == "linux" else None,  # Windows refuses one
        )
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            with suppress(KeyboardInterrupt):
                process.wait()
            process.kill()
            raise


def reason_of_end(code: int, log: Path) -> str:
    """Returns why a command ended before its end.

    Args:
        code: Its exit status.
        log: What it said.
    """
    if code < 0:
        return f"the process was killed by signal {-code} (out of memory?)"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error: ")]
    return (errors or lines or [f"exit status {code}"])[-1].removeprefix("Error: ")


def _end_with(parent: int) -> None:
    """Lets a training end with the process ``parent``, on Linux.

    Where compare is killed, it would go on, and be in the way of the next call.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed already
        os._exit(1)


@cache
def outcome_of(run: Path) -> TrainingOutcome:
    """Returns what a finished training left in its folder.

    Raises:
        SourceError: It cannot be read.
    """
    validation = run / "validation"
    records = read_metrics(validation / METRICS_FILE).records
    predicted = read_predictions(validation)
    record = read_model_record(run / "model")
    network = build_network(len(record.channels), len(record.outputs), record.plan.architecture)
    rows = log_rows(run / "log.csv", ("epoch", "step", "samples_per_second", "peak_memory_mb"))
    seen = () if predicted is None else predicted.cases
    if not seen:
        raise SourceError(f"{validation / PREDICTIONS_FILE}: names no case; delete {run}, and compare again")
    return TrainingOutcome(
        records=records,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        steps=int(rows[-1]["step"]),
        samples_per_second=median(float(row["samples_per_second"]) for row in rows),
        prediction_seconds=fmean(case.seconds for case in seen),
        training_memory_mb=max(float(row["peak_memory_mb"]) for row in rows),
        prediction_memory_mb=max(case.peak_memory_mb for case in seen),
    )


def compare_trials(
    folder: Path, trials: Sequence[Trial], problems: Mapping[str, Sequence[str]], setting: dict[str, Any]
) -> NetworkComparison:
    """Returns the comparison of all trainings that are finished so far.

    Args:
        folder: Where the comparison is written.
        trials: All trainings, the unfinished ones too.
        problems: Of each network, in the order of the table, why trainings of it failed.
        setting: What is the same in all of them.
    """
    results, runs = [], {}
    for name, failed in problems.items():
        own = [trial for trial in trials if trial.network == name]
        of_seeds = _complete_seeds(own)
        if of_seeds:
            runs[name] = of_seeds
        finished = [outcome_of(trial.folder) for trial in own if trial.is_finished]
        results.append(network_result(name, finished, of_seeds, failed))
    statistics = compare_methods(runs).model_dump() if runs else None
    return NetworkComparison(folder, tuple(results), statistics, setting)


def _complete_seeds(trials: Sequence[Trial]) -> list[tuple[LabelMetrics, ...]]:
    """Returns the records of all folds of each seed that has all, so that each seed is measured on the same cases."""
    found = []
    for seed in dict.fromkeys(trial.seed for trial in trials):
        own = [trial for trial in trials if trial.seed == seed]
        if all(trial.is_finished for trial in own):
            found.append(tuple(record for trial in own for record in outcome_of(trial.folder).records))
    return found
