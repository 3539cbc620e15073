"""Curves over the epochs of a run, as drawings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.labels import Labels
from medseg.report.distributions import BOTTOM, EDGE, LEFT, PLOT_HEIGHT, WIDTH
from medseg.report.plots import MEAN_DICE, Points, log_points, log_rows
from medseg.report.scale import Scale
from medseg.setting_types import METRIC_NAMES

LOSS_COLOURS = ("var(--accent)", "var(--problem)")
MEAN_COLOUR = "var(--text)"
FEW = 30  # points that get a dot each


@dataclass(frozen=True)
class Mark:
    """A point of a curve.

    Attributes:
        x: Its place on the page.
        y: Its place on the page.
        text: What it says when it is pointed at.
    """

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A curve of a drawing.

    Attributes:
        name: In the legend.
        colour: CSS.
        points: Of an SVG polyline.
        dots: Its points, where they are few.
    """

    name: str
    colour: str
    points: str
    dots: tuple[Mark, ...]


@dataclass(frozen=True)
class Drawing:
    """Curves over one axis.

    Attributes:
        title: What they show.
        across: The axis of the epochs, or clicks.
        up: The axis of the values.
        curves: In the order of the legend.
        width: Of the page's SVG.
        height: Of the page's SVG.
        below: What the axis counts.
    """

    title: str
    across: Scale
    up: Scale
    curves: tuple[Curve, ...]
    width: float = WIDTH
    height: float = PLOT_HEIGHT
    below: str = "epoch"


def training_curves(log_csv: Path, labels: Labels) -> Iterator[Drawing]:
    """Yields drawings of loss, validation Dice and learning rate, as far as they are in the log.

    Args:
        log_csv: The log of a run.
        labels: Whose Dice is drawn, in their colours.

    Raises:
        SourceError: The log has no epochs.
    """
    rows = log_rows(log_csv)
    epochs = [float(row["epoch"]) for row in rows]
    across = Scale.over(epochs, LEFT / 2, WIDTH - EDGE, least_step=1)
    losses = [("training", "train_loss"), ("validation", "val_loss")]
    dice = [("mean", MEAN_DICE), *((name, f"{MEAN_DICE}_{name}") for name in labels.unions)]
    other, title_of_other = next(
        ((each, METRIC_NAMES[each]) for each in METRIC_NAMES if each != "dice" and f"val_{each}" in rows[0]), ("", "")
    )
    measured = [(name, column.replace(MEAN_DICE, f"val_{other}")) for name, column in dice]
    of_labels = [f"rgb{label.colour}" for label in labels.structures]
    for title, columns, colours in (
        ("Loss", losses, LOSS_COLOURS),
        ("Validation Dice", dice, (MEAN_COLOUR, *of_labels)),
        (f"Validation {title_of_other}", measured if other else [], (MEAN_COLOUR, *of_labels)),
        ("Learning rate", [("learning rate", "learning_rate")], LOSS_COLOURS),
    ):
        known = [
            (name, colour, points)
            for (name, column), colour in zip(columns, colours, strict=False)
            if (points := log_points(rows, column))[0]
        ]
        if known:
            yield _drawing(title, known, across)


def _drawing(title: str, known: Sequence[tuple[str, str, Points]], across: Scale) -> Drawing:
    up = Scale.over((value for _, _, (_, values) in known for value in values), PLOT_HEIGHT - BOTTOM, EDGE)
    curves = []
    for name, colour, (epochs, values) in known:
        places = [(across(epoch), up(value)) for epoch, value in zip(epochs, values, strict=True)]
        marks = [
            Mark(x, y, f"{name}, epoch {epoch:g}: {value:.4g}")
            for (x, y), epoch, value in zip(places, epochs, values, strict=True)
        ]
        points = " ".join(f"{x},{y}" for x, y in places)
        curves.append(Curve(name, colour, points, tuple(marks) if len(marks) <= FEW else ()))
    return Drawing(title, across, up, tuple(curves))
