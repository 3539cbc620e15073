"""Callbacks of training: what is done beside the loop. Each can be left out, and the user's own put beside them.

Example:
    >>> from pathlib import Path
    >>> import torch
    >>> from monai.losses import DiceCELoss
    >>> from medseg.config import Config, TrainingConfig
    >>> from medseg.training import Trainer
    >>> from medseg.training.callbacks import Callback, Checkpoint, EarlyStopping, TensorBoard
    >>> class PrintStep(Callback):
    ...     def on_epoch_end(self, trainer, epoch):
    ...         print(epoch.step)
    >>> callbacks = [Checkpoint(Path("last.safetensors")), TensorBoard(Path("events")), EarlyStopping(20), PrintStep()]
    >>> network = torch.nn.Conv2d(1, 2, kernel_size=3, padding=1)
    >>> loss = DiceCELoss(to_onehot_y=True, softmax=True)
    >>> settings = TrainingConfig(epochs=1, steps_per_epoch=2)
    >>> trainer = Trainer(None, network, loss, torch.optim.AdamW, callbacks=callbacks, settings=settings)
    >>> batch = {"image": torch.rand(2, 1, 16, 16), "label": torch.ones(2, 1, 16, 16)}
    >>> state = trainer.fit([batch, batch])
    2
    >>> Path("last.safetensors").is_file()
    True

Those that need a prepared dataset, as ``medseg train`` has them:

    >>> from medseg.dataset import PatchSampler, PreparedDataset
    >>> from medseg.training.callbacks import Journal, LiveTable, TimeBudget, Validation, Watchdog
    >>> dataset = PreparedDataset("prepared")  # what medseg preprocess wrote
    >>> plan, training, held_back = dataset.plans.plan_3d, dataset.case_ids[1:], dataset.case_ids[:1]
    >>> batches = PatchSampler(dataset.subset(training), plan, batch_size=1, foreground_fraction=1 / 3, seed=0)
    >>> journal = Journal(Path("run"), dataset.labels)  # run/log.csv
    >>> callbacks = [
    ...     TimeBudget(seconds=600), Watchdog(Path("good.safetensors"), dataset.labels.unions, batches),
    ...     Validation(dataset, held_back), journal, LiveTable(journal),
    ... ]

A run that ``medseg train`` began is a folder, to which models go; MLflow has a tracking store:

    >>> from medseg.training.callbacks import MLflow, SaveModel
    >>> from medseg.training.run import reopen_run
    >>> run = reopen_run(Path("run"), dataset, Config())  # doctest: +SKIP
    >>> callbacks += [SaveModel(run), MLflow("liver", uri="http://localhost:5000")]  # doctest: +SKIP

What is no number stops a training, unless a callback asks for a restart:

    >>> from medseg.training.callbacks import Restart
    >>> class GoOn(Callback):
    ...     def on_not_a_number(self, trainer, error):
    ...         trainer.restart = Restart(f"{error}; going on from the last checkpoint", Path("last.safetensors"))
"""

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
