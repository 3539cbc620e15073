"""The validation of a finished training: the held-back cases from their source files, and what is learnt of them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

from medseg.dataset.cases import Case
from medseg.dataset.patches import PatchSampler
from medseg.dataset.spacing import spaced
from medseg.device import Device
from medseg.errors import MedsegError, SourceError, TrainingError
from medseg.evaluation.evaluation import Evaluation
from medseg.inferers.model import load_model, write_model_record
from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import usual_format, write_mask
from medseg.io.read import read_geometry
from medseg.plan import CUSTOM_NETWORK
from medseg.prediction.case_predictor import CasePredictor, predict_cases
from medseg.progress import counted, say, warn
from medseg.report.patches import PatchPicture, patch_pictures
from medseg.training.callbacks.model import LAST, SaveModel
from medseg.training.run import Run
from medseg.training.trainer import Trainer
from medseg.workflows.evaluate import evaluate
from medseg.workflows.finish import choose_postprocessing, learn_to_review, plain, write_golden

# Final validation takes longer than the timed case said, when the machine is busy: a reserve for --max-time.
RESERVE = 1.25
# However long validation takes, at least this part of --max-time is spent on training.
LEAST_TRAINING_SHARE = 0.5
PATCHES_SHOWN = 8  # about


def final_validation(run: Run, device: Device, network: nn.Module | None = None) -> Evaluation:
    """Predicts the held-back cases from their source files, by the very way that ``predict`` goes, and evaluates the
    masks on the source grids. The metrics also go into the model."""
    model = plain(load_model(run.folder, device, network=network))
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
    write_model_record(model.folder, model.record.model_copy(update={"metrics": metrics}))
    learn_rules([run], model.folder, folder, evaluation, {each.case_id: each.expected_dice for each in predicted})
    write_golden(model, model.folder)
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


def training_seconds(run: Run, trainer: Trainer) -> float:
    """Returns the seconds that final validation leaves of ``training.max_time``.

    One case is predicted now, which also shows early whether prediction works.
    """
    max_time = run.config.training.max_time or 0.0
    cases = validation_cases(run)
    SaveModel(run).save(trainer, LAST)
    own = trainer.average if run.plan.architecture.name == CUSTOM_NETWORK else None
    model = load_model(run.folder / LAST, trainer.device, network=own)
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


def example_patches(run: Run, sampler: PatchSampler, trainer: Trainer) -> Iterator[PatchPicture]:
    """Yields pictures of the first batches, after augmentation."""
    plan, labels = run.plan, run.dataset.labels
    spacing = [plan.grid.spacing[axis] for axis in plan.spatial_axes]
    for step in range(ceil(PATCHES_SHOWN / plan.batch_size)):
        batch = sampler.batch(step)
        data = {"image": batch.image, "label": batch.label}
        augmented = trainer.augmentation(data, seed=(trainer.settings.seed, step))
        images, label_maps = augmented["image"].numpy(), augmented["label"].numpy()
        yield from patch_pictures(images, label_maps, batch.case_ids, spacing, labels)


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
