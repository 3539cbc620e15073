"""Metrics of many cases in a few numbers: mean and median per label, and over the labels."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Literal

from pydantic import BaseModel, ConfigDict

from medseg.evaluation.case import EMPTY_MASKS, LabelMetrics, Status

Metric = Literal["dice", "iou", "hd95_mm", "surface_dice"]
METRICS: tuple[Metric, ...] = ("dice", "iou", "hd95_mm", "surface_dice")

DEFINITIONS = {
    "dice": "2|P∩R| / (|P|+|R|), in voxels",
    "iou": "|P∩R| / |P∪R|, in voxels",
    "hd95_mm": "larger of the two directed 95th percentile Hausdorff distances between edge voxels, in mm",
    "surface_dice": "part of both surfaces, by area, within tolerance_mm of the other (Nikolov et al. 2018)",
    "over_labels": "mean over the labels of their means, and of their medians",
    "empty_masks": EMPTY_MASKS,
}


class Average(BaseModel):
    """Mean and median over ``n`` defined values; None when there are none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float | None
    median: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Average":
        defined = [value for value in values if value is not None]
        if not defined:
            return cls(mean=None, median=None, n=0)
        return cls(mean=fmean(defined), median=median(defined), n=len(defined))


class LabelSummary(BaseModel):
    """One label over all cases: in how many it was found, missed, …, and its average metrics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: int
    statuses: dict[Status, int]
    dice: Average
    iou: Average
    hd95_mm: Average
    surface_dice: Average


class Summary(BaseModel):
    """All labels, and their average. ``over_labels`` has n labels, the labels' own averages have n cases."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: dict[str, LabelSummary]
    over_labels: dict[Metric, Average]


def summarise(records: Sequence[LabelMetrics]) -> Summary:
    """The labels in the order in which they come; nothing is defined for a label that no case has."""
    by_label: dict[str, list[LabelMetrics]] = {}
    for record in records:
        by_label.setdefault(record.label, []).append(record)
    labels = {name: _summarise_label(of_label) for name, of_label in by_label.items()}
    return Summary(labels=labels, over_labels={metric: _over_labels(labels, metric) for metric in METRICS})


def _summarise_label(records: Sequence[LabelMetrics]) -> LabelSummary:
    counted = Counter(record.status for record in records)
    return LabelSummary(
        cases=len(records),
        statuses={status: counted[status] for status in ("found", "missed", "false_alarm", "absent")},
        dice=Average.of(record.dice for record in records),
        iou=Average.of(record.iou for record in records),
        hd95_mm=Average.of(record.hd95_mm for record in records),
        surface_dice=Average.of(record.surface_dice for record in records),
    )


def _over_labels(labels: dict[str, LabelSummary], metric: Metric) -> Average:
    averages: list[Average] = [getattr(label, metric) for label in labels.values()]
    means = Average.of(average.mean for average in averages)
    medians = Average.of(average.median for average in averages)
    return Average(mean=means.mean, median=medians.mean, n=means.n)
