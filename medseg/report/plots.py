"""Pictures: how training went, and a label map laid over its image.

Figures are made without pyplot, so that no window system and no global state is involved.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medseg.errors import SourceError
from medseg.files import written_whole
from medseg.table import Row, read_table

Points = tuple[list[float], list[float]]

MEAN_DICE = "val_dice"
# Parts of the picture. To measure what stands in it, as matplotlib's layouts do, takes half of the time of drawing it.
MARGINS = {"left": 0.06, "right": 0.985, "bottom": 0.13, "top": 0.91, "wspace": 0.13}
COUNTS = ("epoch", "step")
COUNT = re.compile(r"\d{1,15}")


def plot_progress(log_csv: Path, output: Path) -> Path:
    """Draws the training loss and the validation Dice of a run over the epochs.

    Args:
        log_csv: The log, with the columns ``epoch``, ``train_loss``, ``val_dice`` and one ``val_dice_<label>`` a label.
            A row in which a column is empty has no point on that curve.
        output: The picture to write.

    Returns:
        The picture.

    Raises:
        SourceError: There is no such table.
        OutputError: The picture cannot be written.
    """
    rows = log_rows(log_csv)
    figure = Figure(figsize=(10, 4))
    loss_axes, dice_axes = figure.subplots(1, 2, sharex=True, gridspec_kw=MARGINS)
    _draw(loss_axes, log_points(rows, "train_loss"), "training", color="#1f4e79")
    if "val_loss" in rows[0]:
        _draw(loss_axes, log_points(rows, "val_loss"), "validation", color="#c0504d")
    loss_axes.set(title="Loss", xlabel="epoch")
    names = [column for column in rows[0] if column.startswith(MEAN_DICE + "_")]
    for name in names:
        _draw(dice_axes, log_points(rows, name), name.removeprefix(MEAN_DICE + "_"), linewidth=1.2)
    epochs, dice = log_points(rows, MEAN_DICE)
    title = "Validation Dice"
    if dice:
        best = max(range(len(dice)), key=dice.__getitem__)
        title += f" (best {dice[best]:.3f} at epoch {epochs[best]:g})"
    _draw(dice_axes, (epochs, dice), "mean", color="black", linewidth=2)
    dice_axes.set(title=title, xlabel="epoch", ylim=(0, 1))
    for axes in (loss_axes, dice_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize="small", ncols=1 + len(axes.lines) // 10)
    with written_whole(output) as temporary:
        figure.savefig(temporary, dpi=120)
    return output


def log_rows(log_csv: Path, needed: Sequence[str] = ("epoch",)) -> list[Row]:
    """Reads the rows of log.csv, one an epoch. All cells but notes are numbers or empty.

    Args:
        log_csv: The log of a run.
        needed: Columns without an empty cell.

    Raises:
        SourceError: There is no such table.
    """
    advice = "a log.csv of medseg train is needed"
    rows = read_table(log_csv, advice)
    if not rows or not set(needed) <= rows[0].keys():
        raise SourceError(f"{log_csv}: no epochs in it; {advice}")
    for line, row in enumerate(rows, start=2):
        for column, text in row.items():
            is_right = COUNT.fullmatch(text) if column in COUNTS else column == "note" or _is_number(text)
            if not is_right or (column in needed and not text):
                raise SourceError(f"{log_csv}: line {line} has {column} '{text[:40]}', which is no number; {advice}")
    return rows


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        return not text or float(text) is not None
    return False


def log_points(rows: list[Row], column: str) -> Points:
    """Returns the epochs in which a column has a value, and the values.

    Args:
        rows: As ``log_rows`` gives them.
        column: Its name.
    """
    filled = [row for row in rows if row.get(column) and isfinite(float(row[column]))]
    return [float(row["epoch"]) for row in filled], [float(row[column]) for row in filled]


def _draw(axes: Axes, points: Points, name: str, color: str | None = None, linewidth: float = 1.5) -> None:
    """Draws one curve, with dots while there are few of them; nothing when there are none."""
    epochs, values = points
    if values:
        marker = "o" if len(values) < 30 else ""
        axes.plot(epochs, values, label=name, color=color, linewidth=linewidth, marker=marker, markersize=3)
