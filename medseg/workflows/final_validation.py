"""The validation of a finished training: the held-back cases from their source files, and what is learnt of them."""

from collections.abc import Sequence

from torch import nn

from medseg.device import Device
from medseg.evaluation.evaluation import Evaluation
from medseg.inferers.backends import with_backend
from medseg.inferers.model import load_model, without_rules
from medseg.inferers.model_record import write_model_record
from medseg.prediction.case_predictor import CasePredictor
from medseg.prediction.cohort import predict_cases
from medseg.prediction.golden import write_golden
from medseg.training.grouping_fit import fit_grouping
from medseg.training.model_rules import learn_rules
from medseg.training.run import Run
from medseg.workflows.evaluate import evaluate


def final_validation(run: Run, cases: Sequence[str], device: Device, network: nn.Module | None = None) -> Evaluation:
    """Predicts held-back cases from their source files, by the very way that ``predict`` goes, and evaluates the masks.

    They are evaluated on the source grids. The metrics also go into the model.

    Args:
        run: Whose best model predicts.
        cases: All that are held back, or those that there is time for.
        device: Where it predicts.
        network: The module that was trained, where it is one of the user's own.
    """
    fit_grouping(run, cases, device, network)
    model = without_rules(load_model(run.folder, device, network=network))
    folder = run.folder / "validation"
    predictor = CasePredictor(with_backend(model, "auto"), folder, model.record.inference)
    predicted = predict_cases(predictor, run.dataset.source_cases(cases))
    tolerance = run.plan.grid.tolerance
    evaluation = evaluate(folder, run.dataset.folder, folder, cases=cases, grid_tolerance=tolerance)
    metrics = {**model.record.metrics, "validation": evaluation.summary.model_dump(mode="json")}
    write_model_record(model.folder, model.record.model_copy(update={"metrics": metrics}))
    expected = {each.case_id: each.expected_dice for each in predicted}
    learn_rules([run], cases, model.folder, evaluation, expected)
    write_golden(model, model.folder)
    return evaluation
