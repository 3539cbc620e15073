"""Training: one loop over batches, and callbacks for everything else.

Example:
    >>> from medseg.training import Trainer
    >>> from medseg.training.callbacks import Checkpoint, EarlyStopping, Watchdog
"""

from medseg.training.callback import Callback, Restart
from medseg.training.epoch import Epoch
from medseg.training.state import TrainingState
from medseg.training.trainer import Trainer

__all__ = ["Callback", "Epoch", "Restart", "Trainer", "TrainingState"]
