"""predictions.json in a folder of masks, as those read it who didn't write it: what was predicted, and of what."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, Field, NonNegativeFloat

from medseg.labels import Labels
from medseg.records import PathInside, Record, read_record

PREDICTIONS_FILE = "predictions.json"
ADVICE = "run 'medseg predict' again, or remove this file"


class PredictedCase(Record):
    """What is read of an entry; older versions wrote less, newer ones may write more."""

    model_config = ConfigDict(extra="allow")

    case_id: PathInside
    source: str
    masks: dict[str, PathInside]  # by format
    extras: tuple[str, ...] = ()
    images: tuple[tuple[str, int, int], ...] = ()  # path, bytes and time of change
    seconds: NonNegativeFloat = 0.0
    peak_memory_mb: NonNegativeFloat = 0.0
    expected_dice: dict[str, float] = Field(default_factory=dict)


class Predictions(Record):
    """The whole file."""

    model_config = ConfigDict(extra="allow")

    labels: Labels
    cases: tuple[PredictedCase, ...] = ()  # others than medseg may write the labels alone
    problems: tuple[Mapping[str, str], ...] = ()
    asked: tuple[str, ...] = ()  # the cases that were to be predicted; a call that was killed has not done all of them
    medseg: str = "?"
    device: str = "?"
    model: str = ""


def read_predictions(folder: Path) -> Predictions | None:
    """None where the folder has no such file. Raises ``SourceError`` for one that is damaged."""
    path = folder / PREDICTIONS_FILE
    return read_record(path, Predictions, ADVICE) if path.is_file() else None
