"""A run of all folds: one training after the other, an ensemble of their models, and the metrics of all cases."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from medseg.device import Device
from medseg.evaluation.evaluation import Evaluation
from medseg.inferers.model import load_model, save_ensemble
from medseg.prediction.golden import write_golden
from medseg.prediction.predictions_file import gather_predictions
from medseg.process_group import ProcessGroup
from medseg.progress import say
from medseg.report.evaluation import REPORT_FILE
from medseg.training.model_rules import learn_rules
from medseg.training.run import Run
from medseg.training.run_trainer import TrainResult
from medseg.training.state import read_state
from medseg.workflows.evaluate import evaluate


def train_folds(
    folder: Path,
    runs: Sequence[Run],
    train_fold: Callable[[Run], TrainResult],
    device: Device,
    processes: ProcessGroup,
    network: nn.Module | None = None,
) -> TrainResult:
    """Trains one network after the other, and makes an ensemble of them.

    Args:
        folder: Of the run of all folds.
        runs: One a fold; what is finished is not trained again.
        train_fold: Trains the network of a run, from where it stands.
        device: Where the ensemble predicts.
        processes: Only the first one writes.
        network: The module that is trained, where it is one of the user's own.
    """
    if processes.is_first:
        # Backwards: a run of all folds is known by the record of the first one.
        for run in reversed(runs):
            run.write()
    for i, run in enumerate(runs):
        if processes.first((run.folder / REPORT_FILE).is_file):  # what is written last
            say(f"Fold {i} is done")
            continue
        say(f"Fold {i}, {i + 1} of {len(runs)}")
        result = train_fold(run)
        if not result.finished:
            return replace(result, folder=folder, model=folder / "model")
    evaluation = processes.first(lambda: finish_folds(folder, runs, device, network))
    states = [read_state(run.checkpoint) for run in runs]
    steps, seconds = sum(state.step for state in states), sum(state.seconds for state in states)
    return TrainResult(folder, folder / "model", steps, seconds, True, evaluation)


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
    """Evaluates the masks that the folds made of the cases that they were not trained on, gathered in ``folder``."""
    predictions = gather_predictions([run.folder / "validation" for run in runs], folder, model)
    dataset, tolerance = runs[0].dataset, runs[0].plan.grid.tolerance
    held_back = [case_id for run in runs for case_id in run.split.validation]
    cases = predictions.asked or held_back  # a fold may have left some out, for want of time; 0.1 says none
    evaluation = evaluate(folder, dataset.folder, folder, cases=cases, grid_tolerance=tolerance)
    expected = {case.case_id: case.expected_dice for case in predictions.cases}
    learn_rules(runs, cases, model / "fold_0", evaluation, expected)  # an ensemble has the record of the first
    return evaluation
