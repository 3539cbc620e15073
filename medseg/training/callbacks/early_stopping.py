"""Early stopping."""

from medseg.progress import counted
from medseg.setting_types import METRIC_NAMES
from medseg.training.callback import Callback
from medseg.training.epoch import Epoch
from medseg.training.trainer import Trainer


class EarlyStopping(Callback):
    """Ends the training after ``patience`` validations in a row without a better score (``training.metric``)."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Looks at the validations so far: a training that ended by its patience doesn't go on."""
        self._look(trainer)

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Looks at the validations so far."""
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        without = trainer.state.validations_since_best
        if without >= self.patience:
            name = METRIC_NAMES[trainer.settings.metric]
            trainer.stop_reason = f"No better validation {name} in {counted(without, 'validation')}: stopping early"
