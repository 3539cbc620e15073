"""MLflow, where it is installed and MLFLOW_TRACKING_URI says where to: the numbers of log.csv."""

import os
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medseg.progress import say


class Tracking:
    """A run of MLflow with the name of the run's folder; nothing where MLflow isn't wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wanted = bool(os.environ.get("MLFLOW_TRACKING_URI")) and find_spec("mlflow") is not None
        self.mlflow: Any = None

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        if not self.wanted:
            return
        if self.mlflow is None:
            self.mlflow = import_module("mlflow")
            self.mlflow.start_run(run_name=self.folder.resolve().name)
            say(f"MLflow gets the numbers too: {os.environ['MLFLOW_TRACKING_URI']}")
        # Its names hold no brackets and commas, which names of labels may have.
        allowed = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in numbers.items()}
        self.mlflow.log_metrics(allowed, step=step)

    def close(self) -> None:
        if self.mlflow is not None:
            self.mlflow.end_run()
