"""The folds of a run, trained by workers elsewhere: each in a process of its own, from its checkpoint on."""

import sys
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from medseg.config import Config
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError, TrainingError
from medseg.files import ensure_folder
from medseg.instances.stored_targets import store_targets
from medseg.parallel import run_in_workers
from medseg.plugins import load_plugins, loaded_plugins
from medseg.progress import warn
from medseg.remote_workers import MOST_DEATHS_OF_A_TRAINING, RemoteWorkers
from medseg.report.evaluation import REPORT_FILE
from medseg.training.parts import OwnParts
from medseg.training.run import reopen_runs, start_runs
from medseg.training.run_trainer import check_held_back
from medseg.training.trials import LOG, reason_of_end, run_apart


@dataclass(frozen=True)
class FoldsRequest:
    """What is asked of a run of all folds whose trainings are done by workers.

    Attributes:
        folder: Of the run.
        prepared: The folder of the cases.
        dims: 2 or 3; None: 3.
        config: All settings; of a run that goes on, those that change.
        device: By its name on the command line, on the workers.
        resume: Whether it goes on.
        plugins: Files that have to be loaded before.
    """

    folder: Path
    prepared: Path
    dims: Literal[2, 3] | None
    config: Config
    device: str
    resume: bool
    plugins: tuple[Path, ...] = field(default_factory=lambda: tuple(loaded_plugins()))


def train_folds_on_workers(request: FoldsRequest, executor: Executor, own: OwnParts) -> None:
    """Trains the folds of a run on workers, each in a process of its own; what is finished is not trained again.

    The runs are planned on a worker, which has the device that they are trained on. A training whose worker died, since
    the time of its job was over, goes on from its checkpoint on another.

    Args:
        request: What is trained.
        executor: Its workers take one training at a time.
        own: What the user brings, which cannot be sent: it has to be none.

    Raises:
        TrainingError: One failed; the others are done.
        ConfigError: It is no run of all folds, or not of parts that have a name.
    """
    if own != OwnParts():
        raise ConfigError("executor: workers take parts that have a name; register yours in a plugin (--plugin)")
    if not request.resume and request.config.training.fold != "all":
        raise ConfigError("training.fold: workers train the folds of a run, one each; set it to all")
    remote = RemoteWorkers(executor, (request.prepared,), ensure_folder(request.folder), MOST_DEATHS_OF_A_TRAINING)
    (_, begun), *_ = remote.outcomes(begin_folds, [request])
    if begun.result is None:
        raise TrainingError(f"{request.folder}: cannot be trained: {begun.error}")
    to_do = [folder for folder in begun.result if not (folder / REPORT_FILE).is_file()]
    failed = []
    for outcome in run_in_workers(
        partial(train_fold_on_worker, request), to_do, workers=remote, description="Training folds"
    ):
        reason = outcome.result or outcome.error
        if reason:
            failed.append(f"{outcome.item.name}: {reason}")
            warn(f"{outcome.item.name} failed: {reason} (see {outcome.item / LOG})")
    if failed:
        raise TrainingError(f"{request.folder}: {'; '.join(failed)}; go on with --resume")


def begin_folds(request: FoldsRequest) -> list[Path]:
    """Begins the runs of all folds, or reopens them, and returns their folders. It runs in a worker.

    Args:
        request: What is trained.

    Raises:
        MedsegError: It cannot be trained like this.
    """
    load_plugins(set(request.plugins) - set(loaded_plugins()))
    dataset = PreparedDataset(request.prepared)
    if request.resume:
        runs = reopen_runs(request.folder, dataset, request.config)
    else:
        training = request.config.training
        device = choose_device(request.device, training.precision, training.threads)
        runs = start_runs(request.folder, dataset, request.dims, request.config, device)
    check_held_back(runs)
    store_targets(dataset, runs[0].plan)
    # Backwards: a run of all folds is known by the record of the first one.
    for run in reversed(runs):
        run.write()
    return [run.folder for run in runs]


def train_fold_on_worker(request: FoldsRequest, folder: Path) -> str:
    """Trains the run of a fold in a process of its own, and returns why that failed; empty when it did not.

    Args:
        request: What is trained.
        folder: Of the run of the fold, which was begun.
    """
    command = [sys.executable, "-m", "medseg", "train", str(request.prepared), "-o", str(folder), "--resume"]
    command += ["--device", request.device, *(f"--plugin={file}" for file in request.plugins)]
    code = run_apart(command, folder / LOG)
    return "" if (folder / REPORT_FILE).is_file() else reason_of_end(code, folder / LOG)
