"""How a metric is spread over the cases, and how what was predicted agrees with the reference: as drawings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.objects import ComparedObject
from medseg.labels import Labels
from medseg.metrics.definitions import METRICS
from medseg.report.scale import Scale
from medseg.structures import Colour

# Of a drawing, in the units of its SVG.
WIDTH = 380.0
LEFT = 112.0  # names of labels
ROW = 26.0
BOTTOM = 24.0
EDGE = 10.0
PLOT_HEIGHT = 220.0

MOST_DOTS = 300  # in a row; of more cases only those far out are drawn
WHISKER = 1.5  # times the distance of the quartiles (Tukey 1977)
GOLDEN = 0.618  # spreads dots evenly, and the same way each time
LIMITS = 1.96  # standard deviations: 95 % of normal differences lie within


@dataclass(frozen=True)
class Dot:
    """A case in a drawing.

    Attributes:
        case_id: Its name.
        value: Of the metric.
        x: Its place on the page.
        y: Its place on the page.
    """

    case_id: str
    value: float
    x: float
    y: float


@dataclass(frozen=True)
class DistributionRow:
    """The cases of a label, or of a method.

    Attributes:
        label: The name of either.
        colour: Of its dots.
        y: The place of the row on the page.
        dots: The cases, or of many those far out.
        box: The places of end of whisker, quartile, median, quartile, and end of whisker.
        median: Its value.
    """

    label: str
    colour: Colour
    y: float
    dots: tuple[Dot, ...]
    box: tuple[float, float, float, float, float]
    median: float


@dataclass(frozen=True)
class Distribution:
    """How one metric is spread over the cases.

    Attributes:
        metric: Its name.
        scale: The axis of its values.
        rows: A row for each label or method.
        height: Of the page's SVG.
        width: Of the page's SVG.
        zero: The place of a line at 0; None without one.
    """

    metric: str
    scale: Scale
    rows: tuple[DistributionRow, ...]
    height: float
    width: float = WIDTH
    zero: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How what was predicted agrees with the reference: the difference of the two against their mean.

    Attributes:
        label: Its name.
        what: What is compared, in the plural, and its unit.
        colour: Of its dots.
        across: The axis of the means.
        up: The axis of the differences.
        dots: The cases, or of objects some of them.
        bias: The mean difference.
        limits: Within which 95 % of normal differences lie.
        width: Of the page's SVG.
        height: Of the page's SVG.

    Source:
        Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8.
    """

    label: str
    what: tuple[str, str]
    colour: Colour
    across: Scale
    up: Scale
    dots: tuple[Dot, ...]
    bias: float
    limits: tuple[float, float]
    width: float = WIDTH
    height: float = PLOT_HEIGHT


def distributions(records: Sequence[LabelMetrics], labels: Labels) -> Iterator[Distribution]:
    """Yields a drawing for each metric that says which way is better.

    Args:
        records: The metrics of all cases and labels.
        labels: In the order of the rows.
    """
    for metric in records[0].values if records else ():
        if METRICS[metric].better == "neither":
            continue
        values = [value for record in records if (value := record.values[metric]) is not None]
        if values:
            yield _distribution(metric, records, labels, Scale.over(values, LEFT, WIDTH - EDGE))


def _distribution(metric: str, records: Sequence[LabelMetrics], labels: Labels, scale: Scale) -> Distribution:
    rows: list[DistributionRow] = []
    for label in labels.structures:
        known = [
            (record.case_id, value)
            for record in records
            if record.label == label.name and (value := record.values[metric]) is not None
        ]
        if known:
            rows.append(row(label.name, label.colour, known, scale, EDGE + ROW * (len(rows) + 0.5)))
    return Distribution(metric, scale, tuple(rows), EDGE + ROW * len(rows) + BOTTOM)


def side_by_side(
    title: str, of_rows: Mapping[str, Sequence[tuple[str, float]]], colours: Mapping[str, Colour]
) -> Distribution:
    """Returns a drawing with a row for each name.

    Args:
        title: Of the drawing.
        of_rows: Of each name the cases and their values; what has none is left out.
        colours: By name.
    """
    known = {name: list(values) for name, values in of_rows.items() if values}
    scale = Scale.over((value for values in known.values() for _, value in values), LEFT, WIDTH - EDGE)
    rows = [
        row(name, colours[name], values, scale, EDGE + ROW * (i + 0.5))
        for i, (name, values) in enumerate(known.items())
    ]
    return Distribution(title, scale, tuple(rows), EDGE + ROW * len(rows) + BOTTOM)


def row(name: str, colour: Colour, known: list[tuple[str, float]], scale: Scale, y: float) -> DistributionRow:
    """Returns the row of a label or method: a dot for each case, and their box.

    Args:
        name: Of the label or method.
        colour: Of its dots.
        known: The cases and their values; at least one.
        scale: The axis of the values.
        y: The place of the row on the page.
    """
    values = np.array([value for _, value in known])
    low, median, high = np.percentile(values, (25, 50, 75))
    reach = WHISKER * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    ends = inside.min(), inside.max()
    dots = [
        Dot(case_id, value, scale(value), round(y + ((i * GOLDEN) % 1 - 0.5) * ROW * 0.6, 2))
        for i, (case_id, value) in zip(count(), known, strict=False)
        if len(known) <= MOST_DOTS or not ends[0] <= value <= ends[1]
    ]
    box = scale(ends[0]), scale(low), scale(median), scale(high), scale(ends[1])
    return DistributionRow(name, colour, y, tuple(dots), box, float(median))


def agreements(
    records: Sequence[LabelMetrics], labels: Labels, objects: Sequence[ComparedObject] = ()
) -> Iterator[Agreement]:
    """Yields drawings for each label that lies in at least two cases: of volumes, and of objects.

    Args:
        records: The metrics of all cases and labels.
        labels: In the order of the drawings.
        objects: Those that were compared: the numbers of each case, and the sizes of those that match.
    """
    for label in labels.structures:
        own = [record for record in records if record.label == label.name and record.status != "absent"]
        compared = [each for each in objects if each.label == label.name]
        pairs = [(("volumes", "ml"), _of_cases(own, "ml"))]
        if compared:
            sizes = [
                (each.case_id, float(each.prediction_voxels), float(each.reference_voxels))
                for each in compared
                if each.fate == "matched"
            ]
            pairs += [(("numbers of objects", ""), _of_cases(own, "objects")), (("sizes of objects", "voxels"), sizes)]
        for what, known in pairs:
            if len(known) > 1:
                yield _agreement(label.name, what, label.colour, known)


def _of_cases(records: Sequence[LabelMetrics], measured: str) -> list[tuple[str, float, float]]:
    """Returns the case ids with what was measured of the prediction and of the reference."""
    return [
        (record.case_id, float(predicted), float(referred))
        for record in records
        if (predicted := record.values.get(f"prediction_{measured}")) is not None
        and (referred := record.values.get(f"reference_{measured}")) is not None
    ]


def _agreement(name: str, what: tuple[str, str], colour: Colour, known: list[tuple[str, float, float]]) -> Agreement:
    means = [(predicted + referred) / 2 for _, predicted, referred in known]
    differences = [predicted - referred for _, predicted, referred in known]
    bias, deviation = float(np.mean(differences)), float(np.std(differences, ddof=1))
    limits = bias - LIMITS * deviation, bias + LIMITS * deviation
    across = Scale.over(means, LEFT / 2, WIDTH - EDGE)
    up = Scale.over([*differences, *limits, 0.0], PLOT_HEIGHT - BOTTOM, EDGE)
    dots = [
        Dot(case_id, difference, across(mean), up(difference))
        for (case_id, _, _), mean, difference in zip(known, means, differences, strict=True)
    ]
    shown = tuple(dots[:: -(-len(dots) // MOST_DOTS)])  # spread evenly over the cases
    return Agreement(name, what, colour, across, up, shown, bias, limits)
