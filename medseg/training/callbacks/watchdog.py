"""The watchdog as a callback: it changes a setting where a training has come to grief, and brings a good state back."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.dataset.patches import PatchSampler
from medseg.errors import TrainingError
from medseg.training.callback import Callback, Restart
from medseg.training.epoch import Epoch
from medseg.training.state import ADVICE
from medseg.training.trainer import Trainer
from medseg.training.watchdog import NotANumber, WatchdogState


class Watchdog(Callback):
    """Goes back to the last good state when a loss is no number, or a label was lost; see ``WatchdogState``.

    Args:
        good_checkpoint: The file of the state to go back to.
        unions: The labels and regions that are watched (``Labels.unions``), by the Dice of training patches.
        sampler: Of the patches: images that hold what is no number are left out, and labels that are never learnt get
            more patches. None: neither.
    """

    def __init__(
        self,
        good_checkpoint: Path,
        unions: Mapping[str, Sequence[int]] | None = None,
        sampler: PatchSampler | None = None,
    ) -> None:
        self.good_checkpoint, self.unions, self.sampler = good_checkpoint, unions or {}, sampler
        self.case_ids = () if sampler is None else sampler.case_ids

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Takes up what was changed before, and keeps a first good state."""
        if trainer.state.watchdog is None:
            fraction = trainer.settings if self.sampler is None else self.sampler
            trainer.state.watchdog = WatchdogState(fraction.foreground_fraction)
        n = max((value for values in self.unions.values() for value in values), default=0) + 1
        counts = trainer.state.watchdog.counts
        if counts and [len(row) for row in counts] != [n] * n:
            raise TrainingError(f"{self.good_checkpoint.parent}: its watchdog has seen other labels; {ADVICE}")
        self._obey(trainer)
        if trainer.state.step == 0:
            trainer.save(self.good_checkpoint)

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Judges after each whole epoch; a good state is kept, to go back to."""
        watch = _state(trainer)
        watch.see(epoch.confusion)
        if trainer.state.step % trainer.settings.steps_per_epoch:
            return
        progress = trainer.clock.progress(trainer.state.step)
        change = watch.judge(self.unions, trainer.state.step, progress)
        if change is not None:
            trainer.restart = Restart(change.note, self.good_checkpoint if change.goes_back else None)
        elif watch.is_good(progress):
            watch.good_at = progress
            trainer.save(self.good_checkpoint)

    def on_not_a_number(self, trainer: Trainer, error: NotANumber) -> None:
        """Goes back, without damaged cases or with a lower rate.

        Raises:
            NotANumber: Enough was tried.
        """
        change = _state(trainer).after(error, self._damaged_cases(error.step))
        trainer.restart = Restart(change.note, self.good_checkpoint)

    def on_restart(self, trainer: Trainer, restart: Restart) -> None:
        """Forgets what it saw of later steps."""
        if restart.checkpoint is not None:
            step = trainer.state.step
            _state(trainer).start_from(step, trainer.clock.progress(step))
        self._obey(trainer)

    def _obey(self, trainer: Trainer) -> None:
        """Leaves out the cases, and takes the rate and the foreground, that the state of the watchdog asks for.

        Raises:
            TrainingError: No case is left.
        """
        watch = _state(trainer)
        trainer.schedule.factor = watch.rate_factor
        if self.sampler is None:
            return
        self.sampler.foreground_fraction = watch.foreground_fraction
        self.sampler.case_ids = tuple(case_id for case_id in self.case_ids if case_id not in set(watch.left_out))
        if not self.sampler.case_ids:
            folder = self.sampler.dataset.folder
            raise TrainingError(f"{folder}: no image is left whose values are numbers; prepare again")

    def _damaged_cases(self, step: int) -> list[str]:
        """Returns those cases of the batch at ``step`` whose images hold what is no number."""
        if self.sampler is None:
            return []
        batch = self.sampler.batch(step)
        fine = batch.image.isfinite().flatten(1).all(1).tolist()
        return sorted({case_id for case_id, is_fine in zip(batch.case_ids, fine, strict=True) if not is_fine})


def _state(trainer: Trainer) -> WatchdogState:
    """Returns the state of the watchdog, which is there from the beginning of ``fit`` on."""
    if trainer.state.watchdog is None:
        raise ValueError("the watchdog is told of epochs before the training has begun")
    return trainer.state.watchdog
