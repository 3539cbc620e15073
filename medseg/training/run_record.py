"""run.json: what is written of a run at its start."""

from pathlib import Path

from pydantic import Field

from medseg.errors import TrainingError
from medseg.plan import Plan
from medseg.records import Record, read_record

# Folders in a RUN: the weights with the best validation, and those of the last step.
BEST, LAST = "model", "model-last"


class RunRecord(Record):
    """The content of run.json: the plan, the cases of both sides of the split, and the prepared folder."""

    prepared: str
    plan: Plan
    training: tuple[str, ...] = Field(min_length=1)
    validation: tuple[str, ...] = Field(min_length=1)


def read_run_record(folder: Path) -> RunRecord:
    """Returns the content of run.json.

    Raises:
        TrainingError: The folder holds no run.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise TrainingError(f"{folder} holds no run; 'medseg train' begins one, without --resume")
    return read_record(path, RunRecord, "start a new run in another folder", TrainingError)


def runs_of(model: Path) -> list[RunRecord]:
    """Returns what is written of the runs that a model came from: several of an ensemble, none of a model alone.

    Args:
        model: A RUN, one of all folds too, or the model in it.
    """
    folder = model.parent if model.name in (BEST, LAST) else model
    written = [path for path in (folder / "run.json", *sorted(folder.glob("fold_*/run.json"))) if path.is_file()]
    return [read_run_record(path.parent) for path in written]
