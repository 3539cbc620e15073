"""The table that a terminal shows while a network is trained."""

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from medseg.progress import console, draws_on_terminal
from medseg.setting_types import METRIC_NAMES
from medseg.training.callback import Callback
from medseg.training.callbacks.journal import Journal
from medseg.training.epoch import Epoch
from medseg.training.trainer import Trainer


class LiveTable(Callback):
    """Shows Dice of each label on training patches and on held-back cases; nothing where there is no terminal.

    Args:
        journal: Whose rows are shown; it comes before this callback.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.names = list(journal.labels.unions)
        self.last: dict[str, str] = {}  # the last value of each column that had one
        self.best: dict[str, float] = {}
        self.live: Live | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Takes up the rows of earlier sittings."""
        for row in self.journal.rows:
            self.remember(row)

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Draws the table again."""
        if draws_on_terminal():
            self.show(self.journal.rows[-1], trainer.clock.time_left(epoch.step, trainer.first_step))

    def remember(self, row: dict[str, str]) -> None:
        """Takes a row of log.csv: the last value of each column, and the best of each Dice."""
        self.last |= {column: value for column, value in row.items() if value != ""}
        for column, value in row.items():
            if column.startswith("val_") and value != "":
                self.best[column] = max(self.best.get(column, 0.0), float(value))

    def show(self, row: dict[str, str], time_left: float | None) -> None:
        """Draws the table with one more row of log.csv.

        Args:
            row: Values by column.
            time_left: Seconds; None: not known yet.
        """
        self.remember(row)
        if self.live is None:
            self.live = Live(console=console, auto_refresh=False)
            self.live.start()
        self.live.update(self._table(time_left), refresh=True)

    def close(self) -> None:
        """Leaves the table as it is."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _table(self, time_left: float | None) -> Table:
        last = self.last
        left = "" if time_left is None else f", {time_left / 60:.1f} min left"
        table = Table(
            "label",
            "training",
            "validation",
            "best",
            title=f"epoch {last['epoch']}, step {last['step']}{left}",
            min_width=48,
        )
        for name in self.names:
            table.add_row(escape(name), self._value(f"train_dice_{name}"), *self._validated(f"val_dice_{name}"))
        table.add_row("mean", "", *self._validated("val_dice"), style="bold")
        if self.journal.metric != "dice":
            name = METRIC_NAMES[self.journal.metric]
            table.add_row(f"mean {name}", "", *self._validated(f"val_{self.journal.metric}"), style="bold")
        table.caption = (
            f"Dice. Loss {float(last['train_loss']):.3f}, learning rate {last['learning_rate']}\n"
            f"{float(last['samples_per_second']):.1f} samples/s, {float(last['peak_memory_mb']) / 1024:.1f} GB"
        )
        return table

    def _validated(self, column: str) -> tuple[str, str]:
        best = self.best.get(column)
        return self._value(column), "–" if best is None else f"{best:.3f}"

    def _value(self, column: str) -> str:
        return f"{float(self.last[column]):.3f}" if column in self.last else "–"
