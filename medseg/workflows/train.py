"""train: a prepared dataset goes in; a model and its validation come out. A run can be killed and resumed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.config import Config
from medseg.dataset.cases import Case
from medseg.dataset.store import PreparedDataset
from medseg.device import Device, choose_device
from medseg.errors import SourceError
from medseg.files import write_json
from medseg.inference.model import load_model
from medseg.io.discover import source_of
from medseg.progress import counted, say, warn
from medseg.training.run import Run, reopen_run, start_run
from medseg.training.session import Session
from medseg.workflows.evaluate import Evaluation, evaluate
from medseg.workflows.finish import choose_postprocessing, plain, write_golden
from medseg.workflows.predict import predict_case, predict_cases

# Final validation takes longer than the timed case said, when the machine is busy: a reserve for --max-time.
RESERVE = 1.25
# However long validation takes, at least this part of --max-time is spent on training.
LEAST_TRAINING_SHARE = 0.5


@dataclass(frozen=True)
class TrainResult:
    """What ``train`` made. ``evaluation`` is that of the cases that were not trained on, on their source grids."""

    folder: Path
    model: Path
    steps: int
    seconds: float
    finished: bool  # False when the run was interrupted; resume goes on with it
    evaluation: Evaluation | None


def train(
    prepared: str | Path,
    output: str | Path,
    *,
    dims: Literal[2, 3] = 3,
    config: Config | None = None,
    device: str = "auto",
    resume: bool = False,
) -> TrainResult:
    """Trains a network on a folder that ``preprocess`` made, and validates it on the cases of one fold.

    Everything but ``dims`` is set in ``config``. With ``resume`` the run in ``output`` goes on with its own dims and
    settings. Ctrl-C writes a checkpoint and returns with ``finished=False``.

    Raises ``MedsegError`` for a source that isn't prepared for training, for wrong settings, and when the loss is no
    number.
    """
    clock_start = time.monotonic()
    dataset, folder = PreparedDataset(Path(prepared)), Path(output)
    if resume:
        run = reopen_run(folder, dataset)
        chosen = choose_device(device, run.config.training.precision)
    else:
        config = config or Config()
        chosen = choose_device(device, config.training.precision)
        run = start_run(folder, dataset, dims, config, chosen)
    validation_cases(run)  # to see now, not after hours of training, whether their files are there
    session = Session(run, chosen, clock_start)
    if not resume:
        run.write()
    session.tell()
    max_time = run.config.training.max_time
    finished = session.train(None if max_time is None else training_seconds(session, max_time))
    if not finished:
        say(f"Interrupted at step {session.step}; go on with: medseg train {prepared} -o {output} --resume")
        return TrainResult(folder, folder / "model", session.step, session.clock.seconds, False, None)
    evaluation = final_validation(run, chosen)
    return TrainResult(folder, folder / "model", session.step, session.clock.seconds, True, evaluation)


def training_seconds(session: Session, max_time: float) -> float:
    """What final validation leaves of ``max_time``, in seconds: one case is predicted now, which also shows early
    whether prediction works."""
    run = session.run
    cases = validation_cases(run)
    session.save_average("model-last", {})
    model = load_model(run.folder / "model-last", session.device)
    predict_case(model, cases[0], None, run.config.inference)  # the first one warms up
    start = time.perf_counter()
    predict_case(model, cases[0], None, run.config.inference)
    # Twice over all cases: to choose between best and last, and for the masks and metrics.
    needed = 2 * RESERVE * len(cases) * (time.perf_counter() - start)
    if needed > (1 - LEAST_TRAINING_SHARE) * max_time:
        warn(
            f"Final validation of {counted(len(cases), 'case')} will take about {needed:.0f} s, so the run will take "
            f"longer than {max_time:.0f} s"
        )
    return max(max_time - needed, LEAST_TRAINING_SHARE * max_time)


def final_validation(run: Run, device: Device) -> Evaluation:
    """Predicts the held-back cases from their source files, by the very way that ``predict`` goes, and evaluates the
    masks on the source grids. The metrics also go into the model."""
    model = plain(load_model(run.folder, device))
    folder = run.folder / "validation"
    predict_cases(model, validation_cases(run), folder, run.config.inference)
    evaluation = evaluate(
        folder,
        run.dataset.folder,
        folder,
        cases=run.split.validation,
        grid_tolerance=run.plan.grid.tolerance,
    )
    metrics = {**model.record.metrics, "validation": evaluation.summary.model_dump(mode="json")}
    record = model.record.model_copy(update={"metrics": metrics})
    write_json(model.folder / "model.json", record.model_dump(mode="json"))
    choose_postprocessing(model.folder, folder, run.dataset, run.split.validation)
    write_golden(model, model.folder)
    return evaluation


def validation_cases(run: Run) -> Sequence[Case]:
    """The held-back cases with their source images. Raises ``SourceError`` when one of their files is gone."""
    dataset = run.dataset
    for path in (p for case in run.split.validation for p in [*dataset.image_paths(case), dataset.label_path(case)]):
        if not path.exists():
            raise SourceError(
                f"{path}: is gone, and validation reads the files that were prepared; bring it back, or run "
                "'medseg preprocess' again"
            )
    return [
        Case(case_id, tuple(source_of(path) for path in run.dataset.image_paths(case_id)))
        for case_id in run.split.validation
    ]
