"""Callbacks of training: what is done beside the loop. Each can be left out, and the user's own put beside them."""

from medseg.training.callback import Callback, Restart
from medseg.training.callbacks.checkpoint import Checkpoint
from medseg.training.callbacks.early_stopping import EarlyStopping
from medseg.training.callbacks.journal import Journal
from medseg.training.callbacks.live_table import LiveTable
from medseg.training.callbacks.mlflow import MLflow
from medseg.training.callbacks.model import SaveModel
from medseg.training.callbacks.tensorboard import TensorBoard
from medseg.training.callbacks.time_budget import TimeBudget
from medseg.training.callbacks.validation import Validation
from medseg.training.callbacks.watchdog import Watchdog

__all__ = [
    "Callback", "Checkpoint", "EarlyStopping", "Journal", "LiveTable", "MLflow", "Restart", "SaveModel", "TensorBoard",
    "TimeBudget", "Validation", "Watchdog",
]  # fmt: skip
