"""The end of a run of all folds: an ensemble of their models, and the metrics of all cases."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from medseg.device import Device
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.predictions import PREDICTIONS_FILE, Predictions
from medseg.files import write_json, written_whole
from medseg.inferers.model import load_model, save_ensemble
from medseg.records import read_object, validated
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


def _predictions(folder: Path) -> dict[str, Any]:
    """The content of predictions.json, which was checked. Raises ``SourceError``."""
    path, advice = folder / PREDICTIONS_FILE, "remove it, and go on with --resume"
    content = read_object(path, advice)
    validated(content, Predictions, path, advice)
    return content
