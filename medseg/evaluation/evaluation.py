"""What an evaluation found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.errors import Problem
from medseg.evaluation.calibration import DEFINITIONS as CALIBRATION
from medseg.evaluation.calibration import LabelCalibration
from medseg.evaluation.case import LabelMetrics, Measures
from medseg.evaluation.metrics_json import CalibrationEntry, LabelEntry, MetricsRecord
from medseg.evaluation.objects import COLUMNS as OBJECT_COLUMNS
from medseg.evaluation.objects import ComparedObject
from medseg.evaluation.pairs import EvaluatedMasks
from medseg.evaluation.summary import Summary
from medseg.metrics.definitions import definitions
from medseg.problems import problem_records
from medseg.progress import counted, warn
from medseg.table import table_text, write_table

PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class Evaluation:
    """What ``medseg evaluate`` measured.

    Attributes:
        measures: What was to be measured.
        records: The metrics of each label of each case.
        summary: Their means, medians and quartiles.
        problems: What went wrong, by case.
        masks: What was evaluated against what.
        calibration: By label, where probabilities were saved.
        failed: Why a prediction cannot be used, by case; these are measured as if it were empty.
        unknown: By case, voxels of the prediction by values that are no label's; they count as background.
        objects: Of labels whose objects are told apart, each object of each case.
    """

    measures: Measures
    records: tuple[LabelMetrics, ...]
    summary: Summary
    problems: tuple[Problem, ...]
    masks: EvaluatedMasks
    calibration: Mapping[str, LabelCalibration] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    objects: tuple[ComparedObject, ...] = ()

    @property
    def n_failed(self) -> int:
        """The number of predictions that cannot be used."""
        return len(self.failed)

    def as_record(self) -> MetricsRecord:
        """Returns the content of metrics.json. What is not defined is None."""
        cases: dict[str, dict[str, LabelEntry]] = {}
        for record in self.records:
            entry = LabelEntry.model_validate({"status": record.status, **record.values})
            cases.setdefault(record.case_id, {})[record.label] = entry
        calibration = CalibrationEntry(definitions=CALIBRATION, labels=self.calibration)
        return MetricsRecord(
            predictions=str(self.masks.predictions.resolve()),
            references=str(self.masks.references.resolve()),
            rename=dict(self.masks.rename),
            grid_tolerance=self.masks.grid_tolerance,
            labels=self.masks.labels,
            tolerance_mm={label: self.measures.tolerance_of(label) for label in self.summary.labels},
            lesion_iou=self.measures.lesion_iou,
            definitions=definitions(self.measures.metrics, self.measures.failed),
            summary=self.summary,
            calibration=calibration if self.calibration else None,
            cases=cases,
            failed=self.failed,
            unknown_values={case_id: dict(voxels) for case_id, voxels in self.unknown.items()},
            problems=problem_records(self.problems),
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the content of metrics.json, as JSON has it."""
        return self.as_record().as_json()

    def as_csv(self) -> str:
        """Returns the content of metrics.csv: a row for each label of each case; what is not defined is empty."""
        columns = ["case_id", "label", "status", *self.measures.metrics]
        return table_text(columns, [record.as_row() for record in self.records])


def write_objects(folder: Path, evaluation: Evaluation) -> None:
    """Writes objects.csv, a row for each object, where objects are told apart."""
    if evaluation.objects:
        write_table(folder / "objects.csv", OBJECT_COLUMNS, (each.as_row() for each in evaluation.objects))


def tell_evaluation(evaluation: Evaluation) -> None:
    """Warns of the problems of an evaluation, and of voxels that have no label's value; of many only of some."""
    unknown = [
        f"{case_id}: {counted(n, 'voxel')} of the prediction {'has' if n == 1 else 'have'} the value {value}, which is "
        f"no label's: {'it counts' if n == 1 else 'they count'} as background, and as a false alarm"
        for case_id, voxels in evaluation.unknown.items()
        for value, n in voxels.items()
    ]
    lines = [*unknown, *map(str, evaluation.problems)]
    for line in lines[:PROBLEMS_SHOWN]:
        warn(line)
    if len(lines) > PROBLEMS_SHOWN:
        warn(f"… and {len(lines) - PROBLEMS_SHOWN} more; metrics.json, which is written with -o, has all of them")
