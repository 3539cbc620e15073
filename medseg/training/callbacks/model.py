"""The models of a run: the best one, and the last one."""

import datetime
import platform
from pathlib import Path
from typing import Any

import monai
import torch

from medseg.inferers.model import save_model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.windows import window_overlap
from medseg.training.callback import Callback
from medseg.training.run import Run
from medseg.training.run_record import BEST, LAST
from medseg.training.trainer import Trainer
from medseg.training.validation import ValidationResult
from medseg.version import VERSION


class SaveModel(Callback):
    """Writes RUN/model when it is the best so far, and RUN/model-last with each checkpoint.

    Where nothing is validated on the way, the last weights are RUN/model.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_validation_end(self, trainer: Trainer, validation: ValidationResult) -> None:
        """Writes the averaged weights where no validation was better."""
        if validation.score == trainer.state.best_score:
            metrics: dict[str, Any] = {"validation_dice_on_model_grid": validation.dice}
            if validation.measured:
                metrics[f"validation_{validation.metric}_on_model_grid"] = validation.measured
            self.save(trainer, BEST, metrics)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Writes the averaged weights, where no validation says which are the best."""
        if trainer.finished and trainer.state.best_score is None:
            self.save(trainer, BEST)

    def on_checkpoint(self, trainer: Trainer) -> None:
        """Writes the averaged weights of now."""
        self.save(trainer, LAST)

    def save(self, trainer: Trainer, name: str, metrics: dict[str, Any] | None = None) -> None:
        """Writes the model RUN/``name``; only the first process does."""
        if not trainer.processes.is_first:
            return
        run, watch = self.run, trainer.state.watchdog
        inference = run.config.inference
        record = ModelRecord(
            medseg=VERSION,
            plan=run.plan,
            labels=run.dataset.labels,
            channels=run.dataset.record.channels,
            said_spacings=run.dataset.record.said_spacings,
            channel_dropout=run.config.augmentation.channel_dropout_probability > 0,
            inference=inference.model_copy(update={"overlap": window_overlap(inference)}),
            usual_values=run.dataset.usual_values,
            provenance={
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "monai": monai.__version__,
                "training_cases": len(set(run.split.training) - set(watch.left_out if watch else ())),
                "steps": trainer.state.step,
                "seed": trainer.settings.seed,
                "init": trainer.settings.init and Path(trainer.settings.init).resolve().name,
                "watchdog": watch.notes if watch else [],
            },
            metrics=metrics or {},
        )
        save_model(run.folder / name, record, trainer.average.state_dict())
