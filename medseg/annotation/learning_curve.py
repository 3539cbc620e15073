"""How well networks do that were trained on more and more cases: annotations/runs/learning_curve.json."""

from pathlib import Path

from pydantic import AwareDatetime, Field, NonNegativeInt, PositiveInt

from medseg.evaluation.metrics_json import MetricsRecord
from medseg.records import PathInside, Record, read_record, write_record

CURVE_FILE = "learning_curve.json"


class LearningPoint(Record):
    """A network, and how well it does on the cases that are held back.

    Attributes:
        run: Its folder, in the folder of the curve.
        cases: How many cases it was trained on, those of its own validation included.
        held_back: How many it was measured on.
        dice: The mean over labels of the mean Dice over these cases; None where none was held back.
        by_label: The mean Dice of each label.
        finished: When.
    """

    run: PathInside
    cases: PositiveInt
    held_back: NonNegativeInt = 0
    dice: float | None = None
    by_label: dict[str, float] = Field(default_factory=dict)
    finished: AwareDatetime


class LearningCurve(Record):
    """The content of learning_curve.json: a point for each network, the oldest first."""

    points: tuple[LearningPoint, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "LearningCurve":
        """Returns the curve in a folder; an empty one where there is none.

        Raises:
            SourceError: The file is damaged.
        """
        path = folder / CURVE_FILE
        return read_record(path, cls, "remove it; the next training begins a new one") if path.is_file() else cls()

    def with_point(self, point: LearningPoint, folder: Path) -> "LearningCurve":
        """Writes the curve with one more point, and returns it.

        Raises:
            OutputError: It cannot be written.
        """
        curve = LearningCurve(points=(*self.points, point))
        write_record(folder / CURVE_FILE, curve)
        return curve


def dice_by_label(metrics: MetricsRecord) -> dict[str, float]:
    """Returns the mean Dice of each label over the cases where it is defined."""
    values: dict[str, list[float]] = {}
    for labels in metrics.cases.values():
        for name, entry in labels.items():
            dice = (entry.__pydantic_extra__ or {}).get("dice")
            if dice is not None:
                values.setdefault(name, []).append(dice)
    return {name: sum(each) / len(each) for name, each in values.items()}
