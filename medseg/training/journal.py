"""What a run tells while it goes on: log.csv, TensorBoard, progress.png; a table on a terminal, a line in a log."""

import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from medseg.labels import Labels
from medseg.progress import draws_on_terminal, say
from medseg.report.example import example_picture
from medseg.report.plots import log_rows, plot_progress
from medseg.table import Row, write_table
from medseg.training.learner import Epoch
from medseg.training.live_table import LiveTable
from medseg.training.tracking import Tracking
from medseg.training.validation import Validation
from medseg.training.watchdog import dice_of_patches

SECONDS_BETWEEN_PICTURES = 30.0


class Journal:
    """Rows of log.csv, one an epoch. After a resume, rows of steps that are done again are dropped."""

    def __init__(self, folder: Path, labels: Labels, first_step: int) -> None:
        self.labels = labels
        names = list(labels.unions)
        self.path = folder / "log.csv"
        self.picture = folder / "progress.png"
        self.columns = [
            "epoch", "step", "seconds", "learning_rate", "train_loss", "grad_norm", "samples_per_second",
            "peak_memory_mb",
            *(f"train_dice_{name}" for name in names),
            "val_dice", *(f"val_dice_{name}" for name in names), "note",
        ]  # fmt: skip
        self.rows = [row for row in self._read() if int(row["step"]) <= first_step]
        self.events = SummaryWriter(str(folder / "events"), purge_step=first_step + 1 if first_step else None)
        self.table = LiveTable(names)
        for row in self.rows:
            self.table.remember(row)
        self.tracking = Tracking(folder)
        self.last_picture = 0.0
        self.note = ""  # of the next row

    @property
    def epochs(self) -> int:
        return len(self.rows)

    def add(self, epoch: Epoch, seconds: float, validation: Validation | None, time_left: float | None) -> None:
        """Writes a row, scalars and, now and then, the picture."""
        row: dict[str, object] = {
            "epoch": self.epochs + 1,
            "step": epoch.step,
            "seconds": round(seconds, 1),
            "learning_rate": f"{epoch.learning_rate:.4g}",
            "train_loss": round(epoch.loss, 5),
            "grad_norm": round(epoch.gradient_norm, 4),
            "samples_per_second": round(epoch.samples_per_second, 2),
            "peak_memory_mb": round(epoch.peak_memory_mb, 1),
            "note": self.note,
        }
        self.note = ""
        if epoch.confusion is not None:
            dice = dice_of_patches(epoch.confusion.tolist(), self.labels.unions)
            row |= {f"train_dice_{name}": _rounded(value) for name, value in dice.items()}
        if validation is not None:
            row["val_dice"] = round(validation.mean_dice, 5)
            row |= {f"val_dice_{name}": _rounded(dice) for name, dice in validation.dice.items()}
        self.rows.append({column: str(row.get(column, "")) for column in self.columns})
        self._write()
        self._track(epoch.step, validation)
        if time.monotonic() - self.last_picture > SECONDS_BETWEEN_PICTURES:
            self.draw()
        if draws_on_terminal():
            self.table.show(self.rows[-1], time_left)
        else:
            self._tell(row, validation, time_left)

    def _track(self, step: int, validation: Validation | None) -> None:
        """TensorBoard, and MLflow where it is wanted."""
        row = self.rows[-1]
        numbers = {column: float(row[column]) for column in self.columns[3:-1] if row[column] != ""}
        for column, value in numbers.items():
            self.events.add_scalar(column, value, step)
        self.tracking.add(numbers, step)
        if validation is not None and (example := validation.example) is not None:
            picture = example_picture(example.image, example.reference, example.predicted, example.grid, self.labels)
            self.events.add_image("image, reference, prediction", picture, step, dataformats="HWC")

    def remark(self, note: str) -> None:
        """Tells it, and writes it into the next row."""
        say(note)
        self.note = "; ".join(filter(None, (self.note, note)))

    def go_back(self, step: int, note: str) -> None:
        """Drops what was told of later steps; the next row says why."""
        self.rows = [row for row in self.rows if int(row["step"]) <= step]
        self.note = note
        self.events.close()
        self.events = SummaryWriter(str(self.events.log_dir), purge_step=step + 1)
        self.events.add_text("watchdog", note, step)

    def draw(self) -> None:
        self.last_picture = time.monotonic()
        plot_progress(self.path, self.picture)
        self.events.flush()

    def close(self) -> None:
        self.table.stop()
        if self.rows:
            self.draw()
        self.events.close()
        self.tracking.close()

    def _tell(self, row: dict[str, object], validation: Validation | None, time_left: float | None) -> None:
        line = f"epoch {row['epoch']}, step {row['step']}: loss {row['train_loss']:.3f}"
        if validation is not None:
            each = ", ".join(f"{name} {_shown(dice)}" for name, dice in validation.dice.items())
            line += f", validation Dice {validation.mean_dice:.3f} ({each})"
        line += f", {row['samples_per_second']:.1f} samples/s"
        if time_left is not None:
            line += f", {time_left / 60:.1f} min left"
        say(line)

    def _read(self) -> list[Row]:
        return log_rows(self.path, ("epoch", "step")) if self.path.is_file() else []

    def _write(self) -> None:
        write_table(self.path, self.columns, self.rows)


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 5)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
