"""Checkpoints, from which a training goes on."""

import time
from pathlib import Path

from medseg.training.callback import Callback, Restart
from medseg.training.epoch import Epoch
from medseg.training.trainer import Trainer

SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Checkpoint(Callback):
    """Writes the checkpoint ``path`` now and then, with each validation and at the end; tells ``on_checkpoint``.

    ``Trainer.resume(path)`` brings it back. It should be the last one of the callbacks, so that it holds what they did.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.saved_at = path, time.monotonic()

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begins to count the time until the first checkpoint."""
        self.saved_at = time.monotonic()

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Writes a checkpoint, where it is time for one."""
        # With each validation too, so that a resumed run knows of the best model that was written.
        if epoch.validation is not None or time.monotonic() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self._save(trainer)

    def on_restart(self, trainer: Trainer, restart: Restart) -> None:
        """Writes a checkpoint, so that a resumed run knows of the change."""
        self._save(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Writes the last checkpoint."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save(self.path)
        trainer.tell("on_checkpoint")
        self.saved_at = time.monotonic()
