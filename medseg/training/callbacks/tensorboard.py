"""TensorBoard."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from medseg.labels import Labels
from medseg.report.example import example_picture
from medseg.training.callback import Callback, Restart
from medseg.training.epoch import Epoch
from medseg.training.trainer import Trainer


class TensorBoard(Callback):
    """Writes curves, and slices of the first validation case, to a folder for TensorBoard.

    Args:
        folder: For the files of events.
        labels: Whose Dice are drawn. None: no Dice and no slices.
    """

    def __init__(self, folder: Path, labels: Labels | None = None) -> None:
        self.folder, self.labels = folder, labels
        self.events: SummaryWriter | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Drops what was written of steps that are done again."""
        if trainer.processes.is_first:
            first = trainer.state.step
            self.open(first + 1 if first else None)

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Writes the numbers of an epoch."""
        if self.events is not None:
            self.add(epoch)

    def on_restart(self, trainer: Trainer, restart: Restart) -> None:
        """Drops what was written of later steps, and says why."""
        if self.events is not None:
            self.open(trainer.state.step + 1)
            self.events.add_text("watchdog", restart.note, trainer.state.step)

    def open(self, purge_step: int | None) -> None:
        """Begins a file, which voids what was written of the step ``purge_step`` and later ones; of none where that
        is None."""
        self.close()
        self.events = SummaryWriter(str(self.folder), purge_step=purge_step)

    def add(self, epoch: Epoch) -> None:
        """Writes the numbers of an epoch."""
        if self.events is None:
            return
        for name, value in epoch.numbers({} if self.labels is None else self.labels.unions).items():
            self.events.add_scalar(name, value, epoch.step)
        example = None if epoch.validation is None else epoch.validation.example
        if example is not None and self.labels is not None:
            images = example.image, example.reference, example.predicted
            picture = example_picture(*images, example.grid, self.labels)
            self.events.add_image("image, reference, prediction", picture, epoch.step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is left."""
        if self.events is not None:
            self.events.close()
            self.events = None
