"""Metrics of many cases in a few numbers: mean, median, quartiles and how sure the mean is, per label and over them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from medseg.evaluation.case import LabelMetrics, Status
from medseg.metrics.objects import USUAL_IOUS

Floats = npt.NDArray[np.float64]

# Of the bootstrap.
RESAMPLES = 2000
SEED = 0
INTERVAL = (2.5, 97.5)  # percentiles

PRECISIONS = tuple(f"object_ap_{round(100 * iou)}" for iou in USUAL_IOUS)


class Average(BaseModel):
    """What ``n`` defined values are on average; None where there are none.

    Attributes:
        mean: Their mean.
        interval: 95 % bootstrap interval of the mean, over the cases; None when there are fewer than two.
        median: Their median.
        quartiles: Their 25th and 75th percentile.
        n: How many values are defined.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float | None
    interval: tuple[float, float] | None
    median: float | None
    quartiles: tuple[float, float] | None
    n: int


class LabelSummary(BaseModel):
    """One label over all cases.

    Attributes:
        cases: In how many it was measured.
        statuses: In how many it was found, missed, a false alarm, absent.
        metrics: Its average metrics, by name.
        pooled: The average precisions of the objects of all cases together, by name; empty where objects were not
            measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: int
    statuses: dict[Status, int]
    metrics: dict[str, Average]
    pooled: dict[str, float] = {}


class Summary(BaseModel):
    """All labels, and their average.

    Attributes:
        labels: The summary of each label; ``n`` counts cases.
        over_labels: The average over the labels, by metric; ``n`` counts labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: dict[str, LabelSummary]
    over_labels: dict[str, Average]


def summarise(records: Sequence[LabelMetrics]) -> Summary:
    """Returns the metrics of many cases in a few numbers.

    Args:
        records: The metrics of each label of each case.

    Returns:
        The labels in the order in which they come; nothing is defined for a label that no case has.
    """
    if not records:
        return Summary(labels={}, over_labels={})
    cases = list(dict.fromkeys(record.case_id for record in records))
    labels = list(dict.fromkeys(record.label for record in records))
    metrics = list(dict.fromkeys(name for record in records for name in record.values))
    draws = resamples(len(cases))
    averages = {metric: _average(table(records, metric, cases, labels), draws) for metric in metrics}
    statuses = {label: Counter(record.status for record in records if record.label == label) for label in labels}
    return Summary(
        labels={
            label: LabelSummary(
                cases=statuses[label].total(),
                statuses={status: statuses[label][status] for status in ("found", "missed", "false_alarm", "absent")},
                metrics={metric: of_labels[i] for metric, (of_labels, _) in averages.items()},
                pooled=pooled_precisions([record for record in records if record.label == label]),
            )
            for i, label in enumerate(labels)
        },
        over_labels={metric: over_labels for metric, (_, over_labels) in averages.items()},
    )


def pooled_precisions(records: Sequence[LabelMetrics]) -> dict[str, float]:
    """Returns the average precisions of the objects of all cases together, by the names of the metrics.

    The mean over cases counts a case with one object as much as one with a thousand; here each object counts.

    Args:
        records: Of one label.

    Examples:
        >>> from medseg.evaluation.case import LabelMetrics
        >>> from medseg.evaluation.summary import pooled_precisions
        >>> few = {"object_ap_50": 0.0, "prediction_objects": 0.0, "reference_objects": 1.0}
        >>> many = {"object_ap_50": 0.5, "prediction_objects": 75.0, "reference_objects": 75.0}  # 50 match
        >>> cases = [LabelMetrics(case_id="", label="", status="found", values=each) for each in (few, many)]
        >>> {name: round(value, 3) for name, value in pooled_precisions(cases).items()}
        {'object_ap_50': 0.495}
    """
    pooled = {}
    for name in PRECISIONS:
        matches = objects = 0
        for record in records:
            precision, *counts = (record.values.get(each) for each in (name, "prediction_objects", "reference_objects"))
            if precision is not None and None not in counts:
                n = round(sum(count for count in counts if count is not None))
                matches += round(precision * n / (1 + precision))  # TP of TP / (objects of both - TP)
                objects += n
        if objects:
            pooled[name] = matches / (objects - matches)
    if len(pooled) == len(PRECISIONS):
        pooled["object_ap"] = float(np.mean(list(pooled.values())))
    return pooled


def table(records: Sequence[LabelMetrics], metric: str, cases: Sequence[str], labels: Sequence[str]) -> Floats:
    """Returns the values of one metric, ``(case, label)``; nan where it is not defined."""
    rows = {case: i for i, case in enumerate(cases)}
    columns = {label: i for i, label in enumerate(labels)}
    values = np.full((len(cases), len(labels)), np.nan)
    for record in records:
        value = record.values.get(metric)
        if value is not None and record.case_id in rows:
            values[rows[record.case_id], columns[record.label]] = value
    return values


def resamples(n_cases: int) -> Floats:
    """Returns how often each case is drawn, ``(resample, case)``: the same for all metrics, labels and methods."""
    random = np.random.default_rng(SEED)
    return random.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=RESAMPLES).astype(np.float64)


def means(values: Floats, draws: Floats) -> Floats:
    """Returns the means of the columns of ``(case, label)`` over the defined values in each resample.

    They are ``(resample, label)``; nan where no value is defined.
    """
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        drawn: Floats = draws @ np.where(defined, values, 0.0) / (draws @ defined)
    return drawn


def over_labels(values: Floats) -> Floats:
    """Returns the means of the defined values in each row; nan where there is none."""
    mean: Floats = means(values.T, np.ones((1, values.shape[1])))[0]
    return mean


def interval(drawn: Floats) -> tuple[float, float]:
    """Returns the 95 % percentile interval of what the resamples gave (Efron and Tibshirani 1993)."""
    low, high = np.nanpercentile(drawn, INTERVAL)
    return float(low), float(high)


def _average(values: Floats, draws: Floats) -> tuple[list[Average], Average]:
    """Returns the average of each column of ``(case, label)``, and over them."""
    drawn = means(values, draws)
    of_labels = [_average_of(column, column_drawn) for column, column_drawn in zip(values.T, drawn.T, strict=True)]
    defined = values[:, np.isfinite(values).any(axis=0)]
    if not defined.size:
        return of_labels, _average_of(np.empty(0), np.empty(0))
    low, median, high = np.nanpercentile(defined, (25, 50, 75), axis=0).mean(axis=1).tolist()
    return of_labels, Average(
        mean=float(np.nanmean(defined, axis=0).mean()),
        interval=interval(over_labels(drawn)) if np.isfinite(defined).sum(axis=0).max() > 1 else None,
        median=median,
        quartiles=(low, high),
        n=defined.shape[1],
    )


def _average_of(values: Floats, drawn: Floats) -> Average:
    defined = values[np.isfinite(values)]
    if not defined.size:
        return Average(mean=None, interval=None, median=None, quartiles=None, n=0)
    low, median, high = np.percentile(defined, (25, 50, 75)).tolist()
    return Average(
        mean=float(defined.mean()),
        interval=interval(drawn) if defined.size > 1 else None,
        median=median,
        quartiles=(low, high),
        n=defined.size,
    )
