"""The validation of a finished training: the held-back cases from their source files, and what is learnt of them."""

import time

from torch import nn

from medseg.device import Device
from medseg.evaluation.evaluation import Evaluation
from medseg.inferers.model import load_model, without_rules, write_model_record
from medseg.plan import CUSTOM_NETWORK
from medseg.prediction.case_predictor import CasePredictor, predict_cases
from medseg.prediction.golden import write_golden
from medseg.progress import counted, warn
from medseg.training.callbacks.model import LAST, SaveModel
from medseg.training.model_rules import learn_rules
from medseg.training.run import Run
from medseg.training.trainer import Trainer
from medseg.workflows.evaluate import evaluate

# Final validation takes longer than the timed case said, when the machine is busy: a reserve for --max-time.
RESERVE = 1.25
# However long validation takes, at least this part of --max-time is spent on training.
LEAST_TRAINING_SHARE = 0.5


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


def training_seconds(run: Run, trainer: Trainer) -> float:
    """Returns the seconds that final validation leaves of ``training.max_time``.

    One case is predicted now, which also shows early whether prediction works.
    """
    max_time = run.config.training.max_time or 0.0
    cases = run.dataset.source_cases(run.split.validation)
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
