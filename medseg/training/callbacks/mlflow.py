"""MLflow: the numbers of log.csv, in a tracking store."""

import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from medseg.extras import check_installed, is_installed
from medseg.progress import say
from medseg.training.callback import Callback
from medseg.training.epoch import Epoch
from medseg.training.trainer import Trainer

RUN_ID = "mlflow_run_id"  # in the state: a training that is resumed goes on with its run


class MLflow(Callback):
    """Writes the numbers of each epoch to a run of MLflow, with the settings of the training as its parameters.

    Needs ``pip install medseg[mlflow]``; MLflow is imported when the training begins.

    Args:
        run_name: As MLflow shows it.
        uri: A server, or a local folder; ``None``: what MLFLOW_TRACKING_URI says, else the folder ``mlruns``.
            For a folder, MLFLOW_ALLOW_FILE_STORE is set in this process.
        experiment: Its name. None: MLflow's own default.
        unions: The labels and regions (``Labels.unions``) whose Dice on training patches is written.

    Raises:
        ConfigError: Where MLflow isn't installed.
    """

    def __init__(
        self,
        run_name: str | None = None,
        uri: str | Path | None = None,
        experiment: str | None = None,
        unions: Mapping[str, Any] | None = None,
    ) -> None:
        check_installed("MLflow", "mlflow")
        self.run_name, self.experiment, self.unions = run_name, experiment, unions or {}
        given = uri or os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns")
        self.uri = given.resolve().as_uri() if isinstance(given, Path) else given
        self.mlflow: Any = None
        self.status = "FAILED"  # unless the training comes to its end

    @classmethod
    def is_wanted(cls) -> bool:
        """Returns whether MLFLOW_TRACKING_URI says where to write, and MLflow is installed."""
        return bool(os.environ.get("MLFLOW_TRACKING_URI")) and is_installed("mlflow")

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Writes the numbers of an epoch; the first one opens the run."""
        if not trainer.processes.is_first:
            return
        if self.mlflow is None:
            self._begin(trainer)
        # Its names hold no brackets and commas, which names of labels may have.
        allowed = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in epoch.numbers(self.unions).items()}
        self.mlflow.log_metrics(allowed, step=epoch.step)

    def _begin(self, trainer: Trainer) -> None:
        if self.uri.startswith("file:"):
            # MLflow 3 wants to be asked for plain files: they need no database, and mlflow-skinny can write them.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.mlflow = import_module("mlflow")
        self.mlflow.set_tracking_uri(self.uri)
        if self.experiment is not None:
            self.mlflow.set_experiment(self.experiment)
        known = trainer.state.extra.get(RUN_ID)
        if known is not None:
            self.mlflow.start_run(run_id=known)
        else:
            run = self.mlflow.start_run(run_name=self.run_name)
            trainer.state.extra[RUN_ID] = run.info.run_id
            self.mlflow.log_params({key: str(value) for key, value in trainer.settings.model_dump().items()})
        say(f"MLflow gets the numbers too: {self.uri}")

    def on_fit_end(self, trainer: Trainer) -> None:
        """Notes how the training ended: MLflow calls one that the user interrupted "killed"."""
        self.status = "FINISHED" if trainer.finished else "KILLED"

    def close(self) -> None:
        """Ends the run, as a failed one where the training raised an error."""
        if self.mlflow is not None:
            self.mlflow.end_run(self.status)
            self.mlflow, self.status = None, "FAILED"
