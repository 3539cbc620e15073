"""The end of a run of all folds: an ensemble of their models, and the metrics of all cases."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from medseg.device import Device
from medseg.errors import SourceError
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.predictions import PREDICTIONS_FILE, Predictions, read_predictions, write_predictions
from medseg.files import written_whole
from medseg.inferers.model import load_model, save_ensemble
from medseg.training.run import Run
from medseg.workflows.evaluate import evaluate
from medseg.workflows.final_validation import learn_rules
from medseg.workflows.finish import write_golden


def finish_folds(folder: Path, runs: Sequence[Run], device: Device, network: nn.Module | None = None) -> Evaluation:
    """Makes ``folder``/model of the models of the folds, and evaluates the masks of all cases.

    Args:
        folder: Of the run of all folds.
        runs: Of each fold, which are finished.
        device: Where the ensemble predicts its golden case.
        network: The module that was trained, where it is one of the user's own.
    """
    model = folder / "model"
    save_ensemble(model, [run.folder / "model" for run in runs])
    evaluation = evaluate_folds(folder / "validation", runs, model)
    write_golden(load_model(model, device, network=network), model)
    return evaluation


def evaluate_folds(folder: Path, runs: Sequence[Run], model: Path) -> Evaluation:
    """Metrics of the masks that the folds made of the cases that they were not trained on, gathered in ``folder``."""
    found = [_gathered(run.folder / "validation", folder) for run in runs]
    together = {
        key: tuple(entry for each in found for entry in getattr(each, key)) for key in ("asked", "cases", "problems")
    }
    predictions = found[0].model_copy(update={"model": str(model.resolve()), **together})
    write_predictions(folder, predictions)
    cases = [case_id for run in runs for case_id in run.split.validation]
    dataset, tolerance = runs[0].dataset, runs[0].plan.grid.tolerance
    evaluation = evaluate(folder, dataset.folder, folder, cases=cases, grid_tolerance=tolerance)
    expected = {case.case_id: case.expected_dice for case in predictions.cases}
    learn_rules(runs, model / "fold_0", folder, evaluation, expected)  # an ensemble has the record of the first
    return evaluation


def _gathered(validation: Path, folder: Path) -> Predictions:
    """Copies the masks of a fold into ``folder``, and returns its predictions.json. Raises ``SourceError``."""
    found = read_predictions(validation, "remove it, and go on with --resume")
    if found is None:
        raise SourceError(f"{validation / PREDICTIONS_FILE}: there is no such file; go on with --resume")
    for name in (name for case in found.cases for name in case.masks.values()):
        with written_whole(folder / name) as temporary:
            shutil.copyfile(validation / name, temporary)
    return found
