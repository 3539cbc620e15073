"""train: a prepared dataset goes in; a model and its validation come out. A run can be killed and resumed."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from medseg.config import Config
from medseg.dataset.cases import Case
from medseg.dataset.spacing import spaced
from medseg.dataset.store import PreparedDataset
from medseg.device import Device, choose_device
from medseg.errors import MedsegError, SourceError, TrainingError
from medseg.evaluation.predictions import PREDICTIONS_FILE, Predictions
from medseg.files import write_json, written_whole
from medseg.inferers.model import load_model, save_ensemble
from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import usual_format, write_mask
from medseg.io.read import read_geometry
from medseg.process_group import ProcessGroup, check_batch, device_of_rank, joined
from medseg.progress import counted, say, warn
from medseg.records import read_object, validated
from medseg.report.evaluation import REPORT_FILE
from medseg.report.patches import PatchPicture, patch_pictures
from medseg.report.training import write_training
from medseg.training.checkpoint import read_progress
from medseg.training.run import Run, reopen_runs, start_runs
from medseg.training.session import Session
from medseg.workflows.evaluate import Evaluation, evaluate
from medseg.workflows.finish import choose_postprocessing, learn_to_review, plain, write_golden
from medseg.workflows.predict import predict_cases
from medseg.workflows.predict_case import CasePredictor

# Final validation takes longer than the timed case said, when the machine is busy: a reserve for --max-time.
RESERVE = 1.25
# However long validation takes, at least this part of --max-time is spent on training.
LEAST_TRAINING_SHARE = 0.5
PATCHES_SHOWN = 8  # about


@dataclass(frozen=True)
class TrainResult:
    """What ``train`` made. ``evaluation`` is that of the cases that were not trained on, on their source grids. Of a
    run of all folds, steps and seconds are those of all."""

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
    dims: Literal[2, 3] | None = None,
    config: Config | None = None,
    device: str = "auto",
    resume: bool = False,
) -> TrainResult:
    """Trains a network on a folder that ``preprocess`` made, and validates it on the cases of one fold, or of each.

    Everything but ``dims`` (3, or those of ``training.init``) is set in ``config``. With ``resume`` the run in
    ``output`` goes on with its own dims and settings; ``config`` may change its length: ``training.epochs``,
    ``max_time`` and ``patience``. Ctrl-C writes a checkpoint and returns with ``finished=False``.

    With ``training.fold="all"`` there is a run for each fold, ``output/fold_0`` and so on, one after the other; they
    share ``max_time``. Their models predict together: ``output/model`` is an ensemble. ``output/validation`` has the
    masks of all cases, each by the network that was not trained on it.

    In a script that torchrun started, all its processes train one network together.

    Raises ``MedsegError`` for a source that isn't prepared for training, for wrong settings, and when the loss is no
    number whatever the watchdog tries.
    """
    clock_start = time.monotonic()
    dataset, folder, config = PreparedDataset(Path(prepared)), Path(output), config or Config()
    given = device_of_rank(device)
    with joined(given) as processes:
        if resume:
            runs = processes.first(lambda: reopen_runs(folder, dataset, config))
            chosen = _device(given, runs[0].config)
        else:
            chosen = _device(given, config)
            runs = processes.first(lambda: start_runs(folder, dataset, dims, config, chosen, processes.size))
        check_batch(processes, runs[0].plan.batch_size)
        for run in runs:
            validation_cases(run)  # to see now, not after hours of training, whether their files are there
        processes.first(lambda: try_a_mask(runs[0]))
        if runs[0].folder == folder:
            result = train_run(runs[0], chosen, clock_start, processes)
        else:
            result = train_folds(folder, runs, chosen, clock_start, processes)
    if not result.finished:
        say(f"Interrupted at step {result.steps}; go on with: medseg train {prepared} -o {output} --resume")
    return result


def _device(name: str, config: Config) -> Device:
    return choose_device(name, config.training.precision, config.training.threads)


def train_run(run: Run, device: Device, started: float, processes: ProcessGroup) -> TrainResult:
    """One network, from where it stands; ``started``: when its time began to count."""
    session = Session(run, device, started, processes)
    if processes.is_first:
        run.write()
        session.tell()
    max_time = run.config.training.max_time
    finished = session.train(None if max_time is None else processes.first(lambda: training_seconds(session, max_time)))
    evaluation = processes.first(lambda: validate_and_report(session)) if finished else None
    return TrainResult(run.folder, run.folder / "model", session.step, session.clock.seconds, finished, evaluation)


def validate_and_report(session: Session) -> Evaluation:
    run = session.run
    evaluation = final_validation(run, session.device)
    write_training(run.folder, run.dataset.labels, evaluation, list(example_patches(session)))
    return evaluation


def example_patches(session: Session) -> Iterator[PatchPicture]:
    """Of the first batches, after augmentation."""
    plan, labels = session.run.plan, session.run.dataset.labels
    spacing = [plan.grid.spacing[axis] for axis in plan.spatial_axes]
    for step in range(ceil(PATCHES_SHOWN / plan.batch_size)):
        batch = session.sampler.batch(step)
        data = {"image": batch.image, "label": batch.label}
        augmented = session.learner.augmentation(data, seed=(session.settings.seed, step))
        images, label_maps = augmented["image"].numpy(), augmented["label"].numpy()
        yield from patch_pictures(images, label_maps, batch.case_ids, spacing, labels)


def train_folds(
    folder: Path, runs: Sequence[Run], device: Device, started: float, processes: ProcessGroup
) -> TrainResult:
    """One network after the other; then their ensemble, and the metrics of all cases."""
    if processes.is_first:
        # Backwards: a run of all folds is known by the record of the first one.
        for run in reversed(runs):
            run.write()
    for i, run in enumerate(runs):
        if processes.first((run.folder / REPORT_FILE).is_file):  # what is written last
            say(f"Fold {i} is done")
            continue
        say(f"Fold {i}, {i + 1} of {len(runs)}")
        result = train_run(run, device, started if i == 0 else time.monotonic(), processes)
        if not result.finished:
            return replace(result, folder=folder, model=folder / "model")
    return processes.first(lambda: finish_folds(folder, runs, device))


def finish_folds(folder: Path, runs: Sequence[Run], device: Device) -> TrainResult:
    """Their ensemble, and the metrics of all cases."""
    model = folder / "model"
    save_ensemble(model, [run.folder / "model" for run in runs])
    evaluation = evaluate_folds(folder / "validation", runs, model)
    write_golden(load_model(model, device), model)
    progress = [read_progress(run.checkpoint) for run in runs]
    return TrainResult(
        folder,
        model,
        sum(each.step for each in progress),
        sum(each.seconds for each in progress),
        True,
        evaluation,
    )


def evaluate_folds(folder: Path, runs: Sequence[Run], model: Path) -> Evaluation:
    """Metrics of the masks that the folds made of the cases that they were not trained on, gathered in ``folder``."""
    summaries = []
    for run in runs:
        summaries.append(_predictions(run.folder / "validation"))
        for name in (name for case in summaries[-1]["cases"] for name in case["masks"].values()):
            with written_whole(folder / name) as temporary:
                shutil.copyfile(run.folder / "validation" / name, temporary)
    together = {
        key: [entry for summary in summaries for entry in summary.get(key, [])] for key in ("cases", "problems")
    }
    write_json(folder / PREDICTIONS_FILE, {**summaries[0], "model": str(model.resolve()), **together})
    cases = [case_id for run in runs for case_id in run.split.validation]
    dataset, tolerance = runs[0].dataset, runs[0].plan.grid.tolerance
    evaluation = evaluate(folder, dataset.folder, folder, cases=cases, grid_tolerance=tolerance)
    expected = {entry["case_id"]: entry.get("expected_dice", {}) for entry in together["cases"]}  # older ones have none
    learn_rules(runs, model / "fold_0", folder, evaluation, expected)  # an ensemble has the record of the first
    return evaluation


def learn_rules(
    runs: Sequence[Run], model: Path, masks: Path, evaluation: Evaluation, expected: Mapping[str, Mapping[str, float]]
) -> None:
    """Postprocessing, and which cases to review, from the held-back cases; neither where these were trained on."""
    if any(set(run.split.validation) & set(run.split.training) for run in runs):
        say("Validated on cases that were trained on, so neither postprocessing nor rules for review are chosen")
        return
    cases = [case_id for run in runs for case_id in run.split.validation]
    choose_postprocessing(model, masks, runs[0].dataset, cases)
    learn_to_review(model, evaluation, expected)


def _predictions(folder: Path) -> dict[str, Any]:
    """The content of predictions.json, which was checked. Raises ``SourceError``."""
    path, advice = folder / PREDICTIONS_FILE, "remove it, and go on with --resume"
    content = read_object(path, advice)
    validated(content, Predictions, path, advice)
    return content


def training_seconds(session: Session, max_time: float) -> float:
    """What final validation leaves of ``max_time``, in seconds: one case is predicted now, which also shows early
    whether prediction works."""
    run = session.run
    cases = validation_cases(run)
    session.save_average("model-last", {})
    model = load_model(run.folder / "model-last", session.device)
    predictor = CasePredictor(model, None, run.config.inference)
    predictor.predict(cases[0])  # the first one warms up
    start = time.perf_counter()
    predictor.predict(cases[0])
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
    predicted = predict_cases(CasePredictor(model, folder, run.config.inference), validation_cases(run))
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
    learn_rules([run], model.folder, folder, evaluation, {each.case_id: each.expected_dice for each in predicted})
    write_golden(model, model.folder)
    return evaluation


def try_a_mask(run: Run) -> None:
    """Writes and certifies a mask of one held-back case in a temporary folder. Raises ``TrainingError`` when that
    fails, which would else be known after hours of training."""
    case = validation_cases(run)[0]
    source, labels = case.images[0], run.dataset.labels
    grid, format_ = read_geometry(source), usual_format(source)
    label_map = np.zeros(grid.shape, dtype=np.min_scalar_type(labels.values[0]))
    label_map[: grid.shape[0] // 2] = labels.values[0]
    with TemporaryDirectory() as folder:
        try:
            write_mask(
                format_, format_.path(Path(folder), case.case_id), LabelMapVolume(label_map, grid, labels, source)
            )
        except MedsegError as error:
            raise TrainingError(
                f"{source.path}: no mask of this image can be written, so no model can be validated on it; put its "
                f"header right or leave the case out, and prepare the dataset again ({error})"
            ) from error


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
        spaced(
            Case(case_id, tuple(source_of(path) for path in dataset.image_paths(case_id))),
            dataset.cases[case_id].spacing,
        )
        for case_id in run.split.validation
    ]
