"""The journal of a run: log.csv, progress.png, and a line in the log for each epoch."""

import time
from collections.abc import Mapping
from pathlib import Path

from medseg.labels import Labels
from medseg.progress import draws_on_terminal, say, warn
from medseg.report.plots import log_rows, plot_progress
from medseg.setting_types import METRIC_NAMES, ValidationMetric
from medseg.table import Row, write_table
from medseg.training.callback import Callback, Restart
from medseg.training.epoch import Epoch
from medseg.training.trainer import Trainer

SECONDS_BETWEEN_PICTURES = 30.0
# Decimals in log.csv; Dice have five. The learning rate has four digits.
DECIMALS = {"grad_norm": 4, "samples_per_second": 2, "peak_memory_mb": 1}


class Journal(Callback):
    """Writes rows of log.csv, one an epoch, and draws them now and then.

    After a resume, rows of steps that are done again are dropped.

    Args:
        folder: Of the run.
        labels: Whose Dice are written.
        metric: By which the best weights are chosen; it is written too.
    """

    def __init__(self, folder: Path, labels: Labels, metric: ValidationMetric = "dice") -> None:
        self.labels, self.metric = labels, metric
        names = list(labels.unions)
        self.path = folder / "log.csv"
        self.picture = folder / "progress.png"
        each = ("", *(f"_{name}" for name in names))
        self.columns = [
            "epoch", "step", "seconds", "learning_rate", "train_loss", "grad_norm", "samples_per_second",
            "peak_memory_mb",
            *(f"train_dice_{name}" for name in names),
            *(f"val_{measured}{name}" for measured in dict.fromkeys(("dice", metric)) for name in each),
            "note",
        ]  # fmt: skip
        self.rows: list[Row] = []
        self.last_picture = 0.0
        self.note = ""  # of the next row

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Takes up the rows that are there."""
        self.open(trainer.state.step)

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Writes a row, and tells of it."""
        for change in trainer.device.threads.told():
            self.remark(change)
        self.add(epoch, trainer.clock.seconds, trainer.clock.time_left(epoch.step, trainer.first_step))

    def on_restart(self, trainer: Trainer, restart: Restart) -> None:
        """Drops the rows of later steps; the next row says why."""
        warn(restart.note)
        self.go_back(trainer.state.step, restart.note)

    def open(self, first_step: int) -> None:
        """Reads the rows of steps up to the first one."""
        rows = log_rows(self.path, ("epoch", "step")) if self.path.is_file() else []
        self.rows = [row for row in rows if int(row["step"]) <= first_step]
        self.last_picture = time.monotonic()  # the first one has some points

    def add(self, epoch: Epoch, seconds: float, time_left: float | None) -> None:
        """Writes a row and, now and then, the picture.

        Args:
            epoch: What is written.
            seconds: Of the training so far.
            time_left: Seconds, about. None: not known.
        """
        numbers = epoch.numbers(self.labels.unions)
        row: dict[str, object] = {
            "epoch": len(self.rows) + 1,
            "step": epoch.step,
            "seconds": round(seconds, 1),
            **{name: round(value, DECIMALS.get(name, 5)) for name, value in numbers.items()},
            "learning_rate": f"{epoch.learning_rate:.4g}",
            "note": self.note,
        }
        self.note = ""
        self.rows.append({column: str(row.get(column, "")) for column in self.columns})
        write_table(self.path, self.columns, self.rows)
        if time.monotonic() - self.last_picture > SECONDS_BETWEEN_PICTURES:
            self.draw()
        if not draws_on_terminal():
            self._tell(row, epoch, time_left)

    def remark(self, note: str) -> None:
        """Tells a note, and writes it into the next row."""
        say(note)
        self.note = "; ".join(filter(None, (self.note, note)))

    def go_back(self, step: int, note: str) -> None:
        """Drops the rows of later steps; the next row says why."""
        self.rows = [row for row in self.rows if int(row["step"]) <= step]
        self.note = note

    def draw(self) -> None:
        """Draws the curves of log.csv."""
        self.last_picture = time.monotonic()
        plot_progress(self.path, self.picture)

    def close(self) -> None:
        """Draws the last picture."""
        if self.rows:
            self.draw()

    def _tell(self, row: Mapping[str, object], epoch: Epoch, time_left: float | None) -> None:
        line = f"epoch {row['epoch']}, step {row['step']}: loss {row['train_loss']:.3f}"
        if epoch.validation is not None:
            each = ", ".join(f"{name} {_shown(dice)}" for name, dice in epoch.validation.dice.items())
            line += f", validation Dice {epoch.validation.mean_dice:.3f} ({each})"
            if self.metric != "dice":
                line += f", {METRIC_NAMES[self.metric]} {epoch.validation.score:.3f}"
        line += f", {epoch.samples_per_second:.1f} samples/s"
        if time_left is not None:
            line += f", {time_left / 60:.1f} min left"
        say(line)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
