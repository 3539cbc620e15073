"""compare: trains networks on one prepared dataset, each in the same time, and says what each gave and took.

DIR/runs/NETWORK/fold_0_seed_0/   a run of 'medseg train', with settings.yaml, and train.log, what that printed
    comparison.json, .csv, .md    the table; comparison.png: the plot
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import numpy as np

from medseg.config import Config, load
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError, SourceError
from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.compared import METRICS_FILE, read_metrics
from medseg.evaluation.comparison import DEFINITIONS as STATISTICS
from medseg.evaluation.comparison import compare as compare_runs
from medseg.evaluation.predictions import PREDICTIONS_FILE, read_predictions
from medseg.evaluation.summary import RESAMPLES, SEED, Floats, interval, resamples
from medseg.files import ensure_folder, write_json, write_text
from medseg.inferers.model import read_model_record
from medseg.networks.registry import build_network, entry_of
from medseg.progress import say, warn
from medseg.report.comparison_plot import Panel, Point, plot_comparison
from medseg.report.evaluation import REPORT_FILE
from medseg.report.plots import log_rows
from medseg.table import write_table
from medseg.training.run import read_run_record

PR_SET_PDEATHSIG = 1  # of Linux: prctl.h

COMPARED = ("dice", "hd95_mm")

DEFINITIONS = {
    "dice, hd95_mm": "means over the held-back cases, of a case over the labels that its reference has, and over the "
    "seeds; HD95 without the cases in which a label was missed",
    "interval": f"95 % bootstrap interval: {RESAMPLES} times seeds and cases are drawn with replacement (seed {SEED})",
    "missed": "labels that were not found at all, over all cases and seeds",
    "samples_per_second": "patches that training saw a second, the median over its epochs",
    "prediction_seconds": "of a case, reading and writing included",
    "memory": "peak of the GPU, or of the whole process on a processor (libraries included), in MB",
    **STATISTICS,
}


@dataclass(frozen=True)
class Trial:
    """One training."""

    network: str  # its name in the table
    fold: int
    seed: int
    folder: Path
    config: Config

    def __str__(self) -> str:
        return f"{self.network}, fold {self.fold}, seed {self.seed}"

    @property
    def settings(self) -> Path:
        """What was asked for; the run's own config.yaml may hold what training decided."""
        return self.folder / "settings.yaml"

    @property
    def is_begun(self) -> bool:
        return (self.folder / "run.json").is_file()

    @property
    def is_finished(self) -> bool:
        return (self.folder / REPORT_FILE).is_file()  # what is written last


@dataclass(frozen=True)
class Measured:
    """What a finished trial left behind."""

    records: tuple[LabelMetrics, ...]
    parameters: int
    steps: int
    samples_per_second: float
    prediction_seconds: float
    training_memory_mb: float
    prediction_memory_mb: float


@dataclass(frozen=True)
class Estimate:
    """``seeds``: the mean of each. ``cases``: those that have a value."""

    mean: float | None
    interval: tuple[float, float] | None
    seeds: tuple[float, ...]
    cases: int


@dataclass(frozen=True)
class NetworkResult:
    """A line of the table. What was not measured is None; ``problems`` say why trainings failed."""

    network: str
    trainings: int  # that were finished
    parameters: int | None
    dice: Estimate
    hd95_mm: Estimate
    missed: int
    steps: float | None
    samples_per_second: float | None
    prediction_seconds: float | None
    training_memory_mb: float | None
    prediction_memory_mb: float | None
    problems: tuple[str, ...]

    def as_row(self) -> dict[str, Any]:
        """Of comparison.csv."""
        row = asdict(self)
        for metric in COMPARED:
            estimate = row.pop(metric)
            low, high = estimate["interval"] or (None, None)
            row |= {metric: estimate["mean"], f"{metric}_low": low, f"{metric}_high": high}
        return row | {"problems": "; ".join(self.problems)}


@dataclass(frozen=True)
class NetworkComparison:
    """All networks, in the order in which they were named. ``statistics``: ``medseg.evaluation.comparison`` of those
    that have a seed with all folds."""

    folder: Path
    networks: tuple[NetworkResult, ...]
    statistics: dict[str, Any] | None
    setting: dict[str, Any]  # what all have in common

    @property
    def ranked(self) -> list[NetworkResult]:
        """The best Dice first, those without one last."""
        return sorted(self.networks, key=lambda each: -np.inf if each.dice.mean is None else each.dice.mean)[::-1]

    def as_json(self) -> dict[str, Any]:
        return {
            "definitions": DEFINITIONS,
            "setting": self.setting,
            "networks": {each.network: asdict(each) for each in self.networks},
            "statistics": self.statistics,
        }


def compare(
    prepared: str | Path,
    output: str | Path,
    networks: Sequence[str | Path],
    *,
    dims: Literal[2, 3] = 3,
    folds: Sequence[int] = (0,),
    seeds: Sequence[int] = (0,),
    configs: Sequence[Path] = (),
    settings: Sequence[str] = (),
    device: str = "auto",
) -> NetworkComparison:
    """Trains each of ``networks`` on each fold with each seed, all with the same settings (``configs``: YAML files,
    ``settings``: ``"training.max_time=5m"``), and writes table and plot into ``output``, after each training anew.
    Width, patch and batch don't follow the time (``training.fit_to_time``), so that all have the same.

    A network is a name, or a YAML file with settings of its own, which go by the name of the file. Only the learning
    rate is each network's own where it isn't set. Each training is a ``medseg train`` in a process of its own. One that
    is finished isn't repeated, an interrupted one goes on; networks, folds and seeds may be added. A training that
    fails stands in the table with its reason.

    Raises ``ConfigError`` for a wrong setting, and when a run in ``output`` had other settings.
    """
    dataset, folder = PreparedDataset(Path(prepared)), ensure_folder(Path(output))
    names = [_name(network) for network in networks]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--network: {', '.join(names) or 'none'} given; name each network once")
    trials = [
        _trial(network, fold, seed, folder, configs, settings)
        for seed, fold, network in product(seeds, folds, networks)
    ]
    choose_device(device)
    for trial in trials:
        _check(trial, dims, dataset)
    problems: dict[str, list[str]] = {name: [] for name in names}
    setting = {
        "prepared": str(dataset.folder.resolve()),
        "dims": dims,
        "folds": list(folds),
        "seeds": list(seeds),
        "settings": [*map(str, configs), *settings],
        "device": str(choose_device(device)),
    }
    for number, trial in enumerate(trials, start=1):
        if not trial.is_finished:
            say(f"{number} of {len(trials)}: {trial}")
            reason = _train(trial, dataset, dims, device)
            if reason is not None:
                problems[trial.network].append(f"fold {trial.fold}, seed {trial.seed}: {reason}")
                warn(f"{trial} failed: {reason} (see {trial.folder / 'train.log'})")
            _write(_comparison(folder, trials, problems, setting))
    comparison = _comparison(folder, trials, problems, setting)
    _write(comparison)
    return comparison


def _name(network: str | Path) -> str:
    return Path(network).stem if _is_file(network) else str(network)


def _is_file(network: str | Path) -> bool:
    return Path(network).suffix in (".yaml", ".yml")


def _trial(
    network: str | Path, fold: int, seed: int, folder: Path, configs: Sequence[Path], settings: Sequence[str]
) -> Trial:
    own = [Path(network)] if _is_file(network) else []
    named = [] if own else [f"network.name={network}"]
    # One plan for all: the width that there is time for is measured anew each time, and would differ between seeds.
    settings = ["training.fit_to_time=false", *settings, *named, f"training.fold={fold}", f"training.seed={seed}"]
    config = load([*configs, *own], settings)
    entry_of(config.network.name)
    name = _name(network)
    return Trial(name, fold, seed, folder / "runs" / name / f"fold_{fold}_seed_{seed}", config)


def _check(trial: Trial, dims: int, dataset: PreparedDataset) -> None:
    """Raises ``ConfigError`` when the trial was begun with other settings, or on another dataset."""
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


def _train(trial: Trial, dataset: PreparedDataset, dims: int, device: str) -> str | None:
    """Trains in a process of its own, so that memory is that of this network. Returns why it failed, if it did."""
    command = [sys.executable, "-m", "medseg", "train", str(dataset.folder), "-o", str(trial.folder)]
    if trial.is_begun:
        command += ["--resume"]
    else:
        settings = write_text(trial.settings, trial.config.to_yaml())
        command += ["--dims", str(dims), "--config", str(settings)]
    log = trial.folder / "train.log"
    with log.open("ab") as file:
        # In a session of its own: Ctrl-C reaches it once, by us, and it writes a checkpoint.
        process = subprocess.Popen(
            [*command, "--device", device],
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=partial(_end_with, os.getpid()),
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            with suppress(KeyboardInterrupt):
                process.wait()
            process.kill()
            raise
    if trial.is_finished:
        return None
    if code < 0:
        return f"the process was killed by signal {-code} (out of memory?)"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error: ")]
    return (errors or lines or [f"exit status {code}"])[-1].removeprefix("Error: ")


def _end_with(parent: int) -> None:
    """Of a training, on Linux: where compare is killed, it would go on, and be in the way of the next call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed already
            os._exit(1)


@cache
def _measured(run: Path) -> Measured:
    validation = run / "validation"
    records = read_metrics(validation / METRICS_FILE).records
    predicted = read_predictions(validation)
    record = read_model_record(run / "model")
    network = build_network(len(record.channels), len(record.outputs), record.plan.architecture)
    rows = log_rows(run / "log.csv", ("epoch", "step", "samples_per_second", "peak_memory_mb"))
    seen = () if predicted is None else predicted.cases
    if not seen:
        raise SourceError(f"{validation / PREDICTIONS_FILE}: names no case; delete {run}, and compare again")
    return Measured(
        records=records,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        steps=int(rows[-1]["step"]),
        samples_per_second=median(float(row["samples_per_second"]) for row in rows),
        prediction_seconds=fmean(case.seconds for case in seen),
        training_memory_mb=max(float(row["peak_memory_mb"]) for row in rows),
        prediction_memory_mb=max(case.peak_memory_mb for case in seen),
    )


def _comparison(
    folder: Path, trials: Sequence[Trial], problems: Mapping[str, Sequence[str]], setting: dict[str, Any]
) -> NetworkComparison:
    """Of all that is finished so far."""
    results, runs = [], {}
    for name, failed in problems.items():
        own = [trial for trial in trials if trial.network == name]
        of_seeds = _complete_seeds(own)
        if of_seeds:
            runs[name] = of_seeds
        finished = [_measured(trial.folder) for trial in own if trial.is_finished]
        results.append(_result(name, finished, of_seeds, failed))
    statistics = compare_runs(runs).model_dump() if runs else None
    return NetworkComparison(folder, tuple(results), statistics, setting)


def _complete_seeds(trials: Sequence[Trial]) -> list[tuple[LabelMetrics, ...]]:
    """The records of all folds of each seed that has all, so that each seed is measured on the same cases."""
    found = []
    for seed in dict.fromkeys(trial.seed for trial in trials):
        own = [trial for trial in trials if trial.seed == seed]
        if all(trial.is_finished for trial in own):
            found.append(tuple(record for trial in own for record in _measured(trial.folder).records))
    return found


def _result(
    name: str, finished: Sequence[Measured], of_seeds: Sequence[tuple[LabelMetrics, ...]], failed: Sequence[str]
) -> NetworkResult:
    def middle(values: Iterable[float]) -> float | None:
        found = list(values)
        return median(found) if found else None

    return NetworkResult(
        network=name,
        trainings=len(finished),
        parameters=finished[0].parameters if finished else None,
        dice=estimate([_of_cases(records, "dice") for records in of_seeds]),
        hd95_mm=estimate([_of_cases(records, "hd95_mm") for records in of_seeds]),
        missed=sum(record.status == "missed" for records in of_seeds for record in records),
        steps=middle(each.steps for each in finished),
        samples_per_second=middle(each.samples_per_second for each in finished),
        prediction_seconds=middle(each.prediction_seconds for each in finished),
        training_memory_mb=max((each.training_memory_mb for each in finished), default=None),
        prediction_memory_mb=max((each.prediction_memory_mb for each in finished), default=None),
        problems=tuple(failed),
    )


def _of_cases(records: Sequence[LabelMetrics], metric: str) -> dict[str, float]:
    """Of each case the mean over the labels that its reference has; nan where one of them has no value."""
    values: dict[str, list[float]] = {}
    for record in records:
        if record.status in ("found", "missed"):
            value = record.values.get(metric)
            values.setdefault(record.case_id, []).append(np.nan if value is None else value)
    return {case: fmean(each) for case, each in values.items()}


def estimate(seeds: Sequence[Mapping[str, float]]) -> Estimate:
    """Of values by case, nan where there is none: a mapping for each seed. The mean over all seeds and cases, and its
    interval by drawing both."""
    cases = list(dict.fromkeys(case for seed in seeds for case in seed))
    values: Floats = np.array([[seed.get(case, np.nan) for case in cases] for seed in seeds]).reshape(
        len(seeds), len(cases)
    )
    defined = np.isfinite(values)
    if not defined.any():
        return Estimate(None, None, (), 0)
    filled = np.where(defined, values, 0.0)
    drawn_seeds = np.random.default_rng(SEED).multinomial(
        len(seeds), np.full(len(seeds), 1 / len(seeds)), size=RESAMPLES
    )
    drawn_cases = resamples(len(cases))
    totals = np.einsum("rs,sc,rc->r", drawn_seeds, filled, drawn_cases)
    counts = np.einsum("rs,sc,rc->r", drawn_seeds, defined.astype(float), drawn_cases)
    with np.errstate(invalid="ignore"):
        drawn = totals / counts
    return Estimate(
        mean=float(values[defined].mean()),
        interval=interval(drawn) if defined.sum() > 1 else None,
        seeds=tuple(float(np.nanmean(seed)) for seed in values if np.isfinite(seed).any()),
        cases=int(defined.any(axis=0).sum()),
    )


def _write(comparison: NetworkComparison) -> None:
    folder, rows = comparison.folder, [each.as_row() for each in comparison.networks]
    write_json(folder / "comparison.json", comparison.as_json())
    write_table(folder / "comparison.csv", list(rows[0]), rows)
    write_text(folder / "comparison.md", markdown(comparison))
    ranked = comparison.ranked
    panels = [
        Panel("Dice", [Point(each.dice.mean, each.dice.interval, each.dice.seeds) for each in ranked]),
        Panel("HD95 (mm)", [Point(each.hd95_mm.mean, each.hd95_mm.interval, each.hd95_mm.seeds) for each in ranked]),
        Panel("million parameters", [Point(_scaled(each.parameters, 1e6)) for each in ranked], is_amount=True),
        Panel("training samples/s", [Point(each.samples_per_second) for each in ranked], is_amount=True),
        Panel("prediction (s a case)", [Point(each.prediction_seconds) for each in ranked], is_amount=True),
        Panel("training memory (GB)", [Point(_scaled(each.training_memory_mb, 1024)) for each in ranked], True),
    ]
    plot_comparison([each.network for each in ranked], panels, folder / "comparison.png")


COLUMNS = (
    "network", "Dice", "HD95 (mm)", "missed", "size (M)", "steps", "samples/s", "case (s)", "training (GB)",
    "prediction (GB)",
)  # fmt: skip
LEGEND = (
    "In brackets: 95 % bootstrap intervals over seeds and cases. Missed: labels. Size: million parameters. Samples: "
    "patches a second of training. Case: prediction. GB: peak memory, of the whole process on a processor."
)


def markdown(comparison: NetworkComparison) -> str:
    """The table, the best first, and what all had in common."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(cells(each) for each in comparison.ranked)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    for each in comparison.networks:
        lines += [f"\n{each.network} failed: {problem}" for problem in each.problems]
    setting = comparison.setting
    caption = (
        f"{setting['dims']}D on {setting['device']}; folds {setting['folds']}, seeds {setting['seeds']}; "
        f"{' '.join(setting['settings'])}. {LEGEND}"
    )
    return "\n".join([*lines, "", caption, ""])


def cells(result: NetworkResult) -> tuple[str, ...]:
    """A row of the table, in the order of ``COLUMNS``."""
    return (
        result.network,
        _with_interval(result.dice, 3),
        _with_interval(result.hd95_mm, 2),
        str(result.missed),
        _shown(_scaled(result.parameters, 1e6), 2),
        _shown(result.steps, 0),
        _shown(result.samples_per_second, 1),
        _shown(result.prediction_seconds, 2),
        _shown(_scaled(result.training_memory_mb, 1024), 1),
        _shown(_scaled(result.prediction_memory_mb, 1024), 1),
    )


def _with_interval(value: Estimate, digits: int) -> str:
    if value.interval is None:
        return _shown(value.mean, digits)
    low, high = value.interval
    return f"{_shown(value.mean, digits)} ({low:.{digits}f}–{high:.{digits}f})"


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
