"""Training in the background: what was annotated is prepared and trained on, by commands of medseg in own processes."""

import re
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from medseg.dataset.annotations import ANNOTATIONS, RUNS
from medseg.dataset.prepared_json import DATASET
from medseg.device import Device
from medseg.errors import ConfigError, MedsegError
from medseg.files import ensure_folder
from medseg.progress import say, warn
from medseg.report.plots import log_rows
from medseg.serve.datastore import Datastore
from medseg.serve.models import ServedModel
from medseg.serve.refusals import BusyError
from medseg.table import Row

Status = Literal["RUNNING", "DONE", "ERROR", "STOPPED"]

USUAL_TIME = "10m"
TIME = re.compile(r"[1-9][0-9]{0,5}[smhd]")
LEAST_CASES = 2  # one to learn from, one to validate on
LINES = 200
# Who waits for an answer goes first.
NICENESS = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10)


@dataclass
class TrainingTask:
    """One training: its commands, one after the other.

    Attributes:
        id: Of the task.
        model: The name under which clients get the result.
        folder: What it writes: prepared/ and run/.
        max_time: Of the training, as in "10m".
        begun: In seconds since 1970.
        ended: The same; None while it runs.
        status: What became of it.
        lines: The last ones that the commands said.
    """

    id: str
    model: str
    folder: Path
    max_time: str
    begun: float = field(default_factory=time.time)
    ended: float | None = None
    status: Status = "RUNNING"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))

    def as_json(self) -> dict[str, object]:
        """Returns what clients are told of the training."""
        return {
            "id": self.id,
            "model": self.model,
            "status": self.status,
            "start_ts": int(self.begun),
            "end_ts": None if self.ended is None else int(self.ended),
            "details": list(self.lines)[-10:] or [""],
        }

    @property
    def log(self) -> list[Row]:
        """The rows of its log.csv; none before the first epoch."""
        return log_rows(self.folder / "run" / "log.csv") if (self.folder / "run" / "log.csv").is_file() else []


class BackgroundTraining:
    """Trains on what was annotated, one task at a time, in processes of their own.

    Each begins with the weights of the model whose name the result gets (``--init``). When it is done, clients get the
    new model by that name; the older one stays where it is.

    Args:
        datastore: Whose label maps are learnt from.
        models: Which clients know; a new one is added to it.
        device: Where networks are trained, and run.
        settings: Options of ``medseg train`` that are added.
    """

    def __init__(
        self, datastore: Datastore, models: dict[str, ServedModel], device: Device, settings: tuple[str, ...] = ()
    ) -> None:
        self.datastore, self.models, self.device, self.settings = datastore, models, device, settings
        self.task: TrainingTask | None = None
        self.lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    @property
    def is_running(self) -> bool:
        """Whether a training is under way."""
        return self.task is not None and self.task.status == "RUNNING"

    def start(self, name: str, max_time: str = USUAL_TIME) -> TrainingTask:
        """Begins to train, and returns the task.

        Args:
            name: Of the model to begin with; where there is none, the network begins anew, and gets this name.
            max_time: Of the training, as in "10m".

        Raises:
            BusyError: A training is under way.
            ConfigError: The time is none.
            MedsegError: Too few cases are annotated.
        """
        if TIME.fullmatch(max_time) is None:
            raise ConfigError(f"max_time '{max_time[:20]}': write it as 90s, 30m or 2h")
        drawn = len(self.cases())
        if drawn < LEAST_CASES:
            raise MedsegError(
                f"{drawn} cases are annotated; training needs {LEAST_CASES}, to learn from and to validate"
            )
        with self.lock:
            if self.is_running:
                raise BusyError("a training is under way; stop it first, or wait")
            number = time.strftime("%Y%m%d-%H%M%S") + f"-{secrets.token_hex(2)}"
            folder = ensure_folder(self.datastore.folder / ANNOTATIONS / RUNS / number)
            self.task, self._stopped = TrainingTask(number, name, folder, max_time), False
            threading.Thread(target=self._work, args=(self.task,), name="training", daemon=True).start()
            return self.task

    def stop(self) -> TrainingTask | None:
        """Ends the training that is under way after its step, and returns its task; None where there never was one."""
        with self.lock:
            self._stopped = True
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()  # not Ctrl-C's signal, which processes of a background job never get
            return self.task

    def cases(self) -> list[str]:
        """Returns the ids of the cases that can be trained on."""
        return self.datastore.annotated()

    def commands(self, task: TrainingTask) -> Iterator[list[str]]:
        """Yields the commands of a task, of medseg; each is asked for when the one before has ended well."""
        model = self.models.get(task.model)
        prepared = str(task.folder / "prepared")
        yield ["preprocess", str(self.datastore.folder), "-o", prepared]
        begins = ["--device", str(self.device.torch_device)]
        begins += [] if model is None else ["--init", str(model.path)]
        if model is not None and model.is_promptable:
            begins.append("--prompts")
        yield ["train", prepared, "-o", str(task.folder / "run"), "--max-time", task.max_time, *begins, *self.settings]

    def take(self, task: TrainingTask) -> None:
        """Lets clients have the new model."""
        run, model = task.folder / "run", self.models.get(task.model)
        if model is None:
            self.models[task.model] = ServedModel(task.model, run, self.device)
        else:
            model.replace(run)

    def _work(self, task: TrainingTask) -> None:
        try:
            done = all(self._run(task, command) for command in self.commands(task))
            if done:
                self.take(task)
            task.status = "DONE" if done else "STOPPED" if self._stopped else "ERROR"
        except Exception as error:
            task.lines.append(str(error))
            task.status = "ERROR"
        task.ended = time.time()
        (warn if task.status == "ERROR" else say)(f"Training of {task.model}: {task.status}; {task.folder}")

    def _run(self, task: TrainingTask, command: list[str]) -> bool:
        """Runs a command of medseg, and says whether it ended well."""
        with self.lock:
            if self._stopped:
                return False
            self._process = subprocess.Popen(
                [sys.executable, "-m", "medseg", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
            )  # fmt: skip
        with suppress(psutil.Error, OSError):  # it may have ended already
            psutil.Process(self._process.pid).nice(NICENESS)
        with self._process:
            for line in self._process.stdout or ():
                task.lines.append(line.rstrip()[:500])
        status = self._process.returncode
        if status:
            task.lines.append(f"medseg {command[0]}: exit status {status}")
        # Cases that could not be prepared are left out, and told of.
        is_prepared = status == 1 and command[0] == "preprocess" and (task.folder / "prepared" / DATASET).is_file()
        return status == 0 or is_prepared
