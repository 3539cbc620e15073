"""Several networks in one picture: a panel for each thing that was measured, a line for each network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medseg.files import written_whole

COLOUR = "#1f4e79"


@dataclass(frozen=True)
class Point:
    """One value, with its interval and those of the single trainings where there are several."""

    value: float | None
    interval: tuple[float, float] | None = None
    single: tuple[float, ...] = ()


@dataclass(frozen=True)
class Panel:
    """A point for each network. Amounts are bars from zero, scores are dots."""

    title: str
    points: Sequence[Point]
    is_amount: bool = False


def plot_comparison(networks: Sequence[str], panels: Sequence[Panel], output: Path) -> Path:
    """Draws the panels side by side, the networks from the top down in the order given."""
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
