"""Which of several networks is better in the same time: what each gave and took, trained on the same cases."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.comparison_json import COMPARISON_FILE, MethodComparison
from medseg.evaluation.method_comparison import DEFINITIONS as STATISTICS
from medseg.evaluation.summary import RESAMPLES, SEED, Floats, interval, resamples
from medseg.records import Record, read_record, write_record

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
class TrainingOutcome:
    """What a finished training left behind: metrics of its held-back cases, size, speed, peak memory."""

    records: tuple[LabelMetrics, ...]
    parameters: int
    steps: int
    samples_per_second: float
    prediction_seconds: float
    training_memory_mb: float
    prediction_memory_mb: float


@dataclass(frozen=True)
class Estimate:
    """The mean of a metric over cases and seeds, and how sure it is.

    Attributes:
        mean: Over all seeds and cases that have a value; None where none has.
        interval: 95 % bootstrap interval of the mean; None where fewer than two values are defined.
        seeds: The mean of each seed.
        cases: How many cases have a value.
    """

    mean: float | None
    interval: tuple[float, float] | None
    seeds: tuple[float, ...]
    cases: int


@dataclass(frozen=True)
class NetworkResult:
    """A network's line of the table. What was not measured is None.

    Attributes:
        network: Its name.
        trainings: How many were finished.
        parameters: Numbers that are trained.
        dice: Mean Dice over the held-back cases.
        hd95_mm: Mean 95th percentile Hausdorff distance in mm.
        missed: Labels that were not found at all, over all cases and seeds.
        steps: Steps of training, the median of the trainings.
        samples_per_second: Patches a second that training saw.
        prediction_seconds: Of a case, reading and writing included.
        training_memory_mb: Peak, the largest of the trainings.
        prediction_memory_mb: Peak, the largest of the predictions.
        problems: Why trainings failed.
    """

    network: str
    trainings: int
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
        """Returns a row of comparison.csv."""
        row = asdict(self)
        for metric in COMPARED:
            estimate = row.pop(metric)
            low, high = estimate["interval"] or (None, None)
            row |= {metric: estimate["mean"], f"{metric}_low": low, f"{metric}_high": high}
        return row | {"problems": "; ".join(self.problems)}


class NetworkComparisonRecord(Record):
    """The content of comparison.json of ``medseg compare``."""

    definitions: dict[str, str]
    setting: dict[str, Any]
    networks: dict[str, NetworkResult]
    statistics: MethodComparison | None


@dataclass(frozen=True)
class NetworkComparison:
    """What ``medseg compare`` found.

    Attributes:
        folder: Where table and plot are written.
        networks: In the order in which they were named.
        statistics: The ``MethodComparison``, as JSON has it, of those that have a seed with all folds; or None.
        setting: What all have in common.
    """

    folder: Path
    networks: tuple[NetworkResult, ...]
    statistics: dict[str, Any] | None
    setting: dict[str, Any]

    @property
    def ranked(self) -> list[NetworkResult]:
        """The networks, the best Dice first, those without one last."""
        return sorted(self.networks, key=lambda each: -np.inf if each.dice.mean is None else each.dice.mean)[::-1]

    def as_record(self) -> NetworkComparisonRecord:
        """Returns the content of comparison.json."""
        return NetworkComparisonRecord(
            definitions=DEFINITIONS,
            setting=self.setting,
            networks={each.network: each for each in self.networks},
            statistics=None if self.statistics is None else MethodComparison.model_validate(self.statistics),
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the content of comparison.json, as JSON has it."""
        return self.as_record().as_json()


def read_network_comparison(path: Path) -> NetworkComparisonRecord:
    """Returns the content of a comparison.json of ``medseg compare``.

    Raises:
        SourceError: It is none.
    """
    return read_record(path, NetworkComparisonRecord, "run 'medseg compare' again")


def write_network_comparison_record(folder: Path, record: NetworkComparisonRecord) -> Path:
    """Writes comparison.json of ``medseg compare`` into a folder. Raises ``OutputError``."""
    return write_record(folder / COMPARISON_FILE, record)


def network_result(
    name: str, finished: Sequence[TrainingOutcome], of_seeds: Sequence[tuple[LabelMetrics, ...]], failed: Sequence[str]
) -> NetworkResult:
    """Returns a network's line of the table.

    Args:
        name: The network.
        finished: All its trainings that were finished.
        of_seeds: The metrics of each seed that has all folds.
        failed: Why others failed.
    """

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
    """Returns of each case the mean over the labels that its reference has; nan where one of them has no value."""
    values: dict[str, list[float]] = {}
    for record in records:
        if record.status in ("found", "missed"):
            value = record.values.get(metric)
            values.setdefault(record.case_id, []).append(np.nan if value is None else value)
    return {case: fmean(each) for case, each in values.items()}


def estimate(seeds: Sequence[Mapping[str, float]]) -> Estimate:
    """Returns the mean over all seeds and cases, and its interval by drawing both.

    Args:
        seeds: Of each seed the values by case, nan where there is none.
    """
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
