"""What a callback is told while a network is trained, and what it may ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.training.epoch import Epoch
    from medseg.training.trainer import Trainer
    from medseg.training.validation import ValidationResult
    from medseg.training.watchdog import NotANumber


@dataclass(frozen=True)
class Restart:
    """A callback's request for new batches.

    Attributes:
        note: Why, in words.
        checkpoint: The state to go back to. None: the training goes on from where it is.

    Example:
        >>> class NewBatches(Callback):
        ...     def on_epoch_end(self, trainer, epoch):
        ...         if epoch.step == 1000:
        ...             trainer.restart = Restart("other cases from here on")
    """

    note: str
    checkpoint: Path | None = None


class Callback:
    """The base of all callbacks: it is told of everything, and does nothing. A callback overrides what concerns it.

    Callbacks are told in the order in which the trainer has them. They may read and change all that the trainer holds:
    ``trainer.state`` is stored in checkpoints, ``trainer.stop_reason`` ends the training after this epoch, and
    ``trainer.restart`` asks for new batches, and if need be for the weights of a checkpoint. Where several processes
    train one network, each has the same callbacks; files are written by ``trainer.processes.is_first``.

    Example:
        >>> class PrintLoss(Callback):
        ...     def on_epoch_end(self, trainer, epoch):
        ...         print(epoch.step, epoch.loss)
    """

    def on_fit_begin(self, trainer: "Trainer") -> None:
        """Is called before the first step, of a new training or of one that goes on."""

    def on_epoch_end(self, trainer: "Trainer", epoch: "Epoch") -> None:
        """Is called after the steps of an epoch, or of a part of one where the training ends within it."""

    def on_validation_end(self, trainer: "Trainer", validation: "ValidationResult") -> None:
        """Is called after a validation; ``trainer.state.best_score`` counts it already."""

    def on_checkpoint(self, trainer: "Trainer") -> None:
        """Is called after a checkpoint was written."""

    def on_not_a_number(self, trainer: "Trainer", error: "NotANumber") -> None:
        """Is called after a loss or a gradient that is no number.

        The error is raised unless one of the callbacks asks for a restart.
        """

    def on_restart(self, trainer: "Trainer", restart: Restart) -> None:
        """Is called after a restart: weights and step are those to go on with, and the batches are opened next."""

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Is called after the last step; ``trainer.finished`` is False where the user interrupted."""

    def close(self) -> None:
        """Is called at the very end, after errors too."""
