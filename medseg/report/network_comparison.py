"""What ``medseg compare`` writes of several networks: comparison.json, the tables, and a plot with a panel for each
thing that was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medseg.evaluation.network_comparison import (
    Estimate,
    NetworkComparison,
    NetworkResult,
    write_network_comparison_record,
)
from medseg.files import write_text, written_whole
from medseg.table import write_table

COLOUR = "#1f4e79"

COLUMNS = (
    "network", "Dice", "HD95 (mm)", "missed", "size (M)", "steps", "samples/s", "case (s)", "training (GB)",
    "prediction (GB)",
)  # fmt: skip
LEGEND = (
    "In brackets: 95 % bootstrap intervals over seeds and cases. Missed: labels. Size: million parameters. Samples: "
    "patches a second of training. Case: prediction. GB: peak memory, of the whole process on a processor."
)


@dataclass(frozen=True)
class NetworkValue:
    """One value of a network.

    Attributes:
        value: None where it was not measured.
        interval: Its 95 % interval, where there is one.
        single: The values of the single trainings, where there are several.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    single: tuple[float, ...] = ()


@dataclass(frozen=True)
class Panel:
    """A point for each network.

    Attributes:
        title: What was measured.
        points: In the order of the networks.
        is_amount: Whether they are amounts, which are bars from zero. Scores are dots.
    """

    title: str
    points: Sequence[NetworkValue]
    is_amount: bool = False


def write_network_comparison(comparison: NetworkComparison) -> None:
    """Writes comparison.json, comparison.csv, comparison.md and comparison.png into the folder of the comparison.

    Raises:
        OutputError: When the folder cannot be written to.
    """
    folder, rows = comparison.folder, [each.as_row() for each in comparison.networks]
    write_network_comparison_record(folder, comparison.as_record())
    write_table(folder / "comparison.csv", list(rows[0]), rows)
    write_text(folder / "comparison.md", markdown(comparison))
    ranked = comparison.ranked
    panels = [
        Panel("Dice", [NetworkValue(each.dice.mean, each.dice.interval, each.dice.seeds) for each in ranked]),
        Panel(
            "HD95 (mm)", [NetworkValue(each.hd95_mm.mean, each.hd95_mm.interval, each.hd95_mm.seeds) for each in ranked]
        ),
        Panel("million parameters", [NetworkValue(_scaled(each.parameters, 1e6)) for each in ranked], is_amount=True),
        Panel("training samples/s", [NetworkValue(each.samples_per_second) for each in ranked], is_amount=True),
        Panel("prediction (s a case)", [NetworkValue(each.prediction_seconds) for each in ranked], is_amount=True),
        Panel("training memory (GB)", [NetworkValue(_scaled(each.training_memory_mb, 1024)) for each in ranked], True),
    ]
    plot_networks([each.network for each in ranked], panels, folder / "comparison.png")


def plot_networks(networks: Sequence[str], panels: Sequence[Panel], output: Path) -> Path:
    """Draws the panels side by side, the networks from the top down.

    Args:
        networks: Their names, in this order.
        panels: With a point for each network.
        output: The picture to write.

    Returns:
        The picture.

    Raises:
        OutputError: The picture cannot be written.
    """
    figure = Figure(figsize=(2.2 * len(panels) + 1.5, 0.34 * len(networks) + 1.2), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        _draw(axes, panel)
        axes.set_yticks(range(len(networks)), networks)
        axes.set_ylim(len(networks) - 0.4, -0.6)
    with written_whole(output) as temporary:
        figure.savefig(temporary, dpi=120)
    return output


def _draw(axes: Axes, panel: Panel) -> None:
    for row, point in enumerate(panel.points):
        if point.value is None:
            axes.text(0.03, row, "–", transform=axes.get_yaxis_transform(), va="center", color="grey")
        elif panel.is_amount:
            axes.barh(row, point.value, height=0.55, color=COLOUR)
        else:
            if point.interval is not None:
                axes.plot(point.interval, (row, row), color=COLOUR, linewidth=2)
            axes.plot(point.single, [row] * len(point.single), "|", color="grey", markersize=9)
            axes.plot(point.value, row, "o", color=COLOUR, markersize=6)
    axes.set_title(panel.title, fontsize=9)
    axes.tick_params(labelsize=8, left=False)
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right", "left"]].set_visible(False)


def markdown(comparison: NetworkComparison) -> str:
    """Returns the table in Markdown, the best network first, and what all had in common."""
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
    """Returns a row of the table as texts, in the order of ``COLUMNS``."""
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
