"""comparison.json of several predictions: its record, reader and writer."""

from pathlib import Path

from medseg.records import Record, read_record, write_record

COMPARISON_FILE = "comparison.json"


class Standing(Record):
    """How a method stands in one metric.

    ``mean`` is over the ``n`` cases that have a value, with its 95 % bootstrap ``interval``. ``place`` 1 is the best,
    by mean rank; ``places`` is its 95 % bootstrap interval, ``kept`` the part of the resamples in which it stays.
    """

    mean: float | None
    interval: tuple[float, float] | None
    n: int
    mean_rank: float
    place: float
    places: tuple[float, float]
    kept: float


class Difference(Record):
    """How two methods differ in one metric.

    ``mean`` is of first - second over the ``n`` cases where both have a value, with its 95 % bootstrap interval; ``p``
    and ``p_holm`` are over all cases. Means that differ by less than ``noise`` may differ by the seed alone.
    """

    first: str
    second: str
    mean: float | None
    interval: tuple[float, float] | None
    n: int
    p: float
    p_holm: float
    noise: float | None


class Contest(Record):
    """One metric on ``cases`` cases. ``order_kept``: the part of the resamples in which all places are the same."""

    cases: int
    standings: dict[str, Standing]
    order_kept: float
    differences: list[Difference]


class Contests(Record):
    """Of one metric: over the labels, and for each label where there are several."""

    over_labels: Contest
    labels: dict[str, Contest]


class MethodComparison(Record):
    """Which of several methods is better.

    Attributes:
        seeds: Trainings of each method.
        cases: Those that were measured in all trainings.
        metrics: The comparison of each metric.
    """

    seeds: dict[str, int]
    cases: list[str]
    metrics: dict[str, Contests]


class MethodComparisonRecord(MethodComparison):
    """The content of comparison.json of ``medseg evaluate``: the comparison, and the predictions of each method."""

    definitions: dict[str, str]
    predictions: dict[str, list[str]]


def read_method_comparison(path: Path) -> MethodComparisonRecord:
    """Returns the content of a comparison.json of ``medseg evaluate``. Raises ``SourceError`` where it is none."""
    return read_record(path, MethodComparisonRecord, "run 'medseg evaluate' again")


def write_method_comparison(folder: Path, record: MethodComparisonRecord) -> Path:
    """Writes comparison.json of ``medseg evaluate`` into a folder. Raises ``OutputError``."""
    return write_record(folder / COMPARISON_FILE, record)
