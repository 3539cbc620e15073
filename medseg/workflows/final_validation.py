"""The validation of a finished training: the held-back cases from their source files, and what is learnt of them."""

from torch import nn

from medseg.device import Device
from medseg.evaluation.evaluation import Evaluation
from medseg.inferers.model import load_model, without_rules, write_model_record
from medseg.prediction.case_predictor import CasePredictor, predict_cases
from medseg.prediction.golden import write_golden
from medseg.training.model_rules import learn_rules
from medseg.training.run import Run
from medseg.workflows.evaluate import evaluate


def final_validation(run: Run, device: Device, network: nn.Module | None = None) -> Evaluation:
    """Predicts the held-back cases from their source files, by the very way that ``predict`` goes, and evaluates the
    masks.

    They are evaluated on the source grids. The metrics also go into the model.
    """
    model = without_rules(load_model(run.folder, device, network=network))
    folder = run.folder / "validation"
    predictor, cases = CasePredictor(model, folder, run.config.inference), run.split.validation
    predicted = predict_cases(predictor, run.dataset.source_cases(cases))
    tolerance = run.plan.grid.tolerance
    evaluation = evaluate(folder, run.dataset.folder, folder, cases=cases, grid_tolerance=tolerance)
    metrics = {**model.record.metrics, "validation": evaluation.summary.model_dump(mode="json")}
    write_model_record(model.folder, model.record.model_copy(update={"metrics": metrics}))
    learn_rules([run], model.folder, folder, evaluation, {each.case_id: each.expected_dice for each in predicted})
    write_golden(model, model.folder)
    return evaluation
