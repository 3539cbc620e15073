"""A network that learnt from a teacher beside it: what it lost, and what it saves."""

from pathlib import Path

from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.inferers.model import Model, load_model
from medseg.inferers.model_record import TeacherComparison, write_model_record
from medseg.inferers.predictor import Predictor
from medseg.progress import counted, say, warn
from medseg.training.inference_fit import LARGEST_LOSS
from medseg.training.run import Run
from medseg.training.run_record import BEST
from medseg.training.time_shares import TimeShares
from medseg.training.validation import validate


def compare_with_teacher(run: Run, shares: TimeShares, device: Device) -> None:
    """Measures the model of a finished run and its teacher on the same held-back cases, and notes it in model.json.

    Where the student loses more than ``LARGEST_LOSS`` of the mean Dice, it says to go on predicting with the teacher.
    """
    path = run.config.training.teacher
    cases = shares.compared or shares.cases
    if path is None or not cases:
        return
    held_back = run.dataset.subset(cases)
    teacher, student = load_model(Path(path), device), load_model(run.folder / BEST, device)
    theirs, own = (_measured(model, held_back) for model in (teacher, student))
    comparison = TeacherComparison(
        name=teacher.name,
        cases=len(held_back),
        dice_of_teacher=theirs[0],
        dice=own[0],
        seconds_of_teacher=theirs[1],
        seconds=own[1],
        is_good_enough=theirs[0] - own[0] <= LARGEST_LOSS,
    )
    record = student.record.model_copy(update={"teacher": comparison})
    write_model_record(student.folder, record)
    told = (
        f"Of {counted(len(held_back), 'held-back case')} the teacher reaches a mean Dice of {theirs[0]:.4f} in "
        f"{theirs[1]:.3g} s, the student {own[0]:.4f} in {own[1]:.3g} s"
    )
    if comparison.is_good_enough:
        say(told)
    else:
        warn(f"{told}. That costs more than {LARGEST_LOSS} of Dice: go on predicting with the teacher, {path}")


def _measured(model: Model, held_back: PreparedDataset) -> tuple[float, float]:
    """Returns mean Dice and seconds of a model on held-back cases, by its own windows."""
    result = validate(Predictor(model.network, model.record.plan, model.device), held_back, model.record.inference)
    return result.mean_dice, result.seconds
