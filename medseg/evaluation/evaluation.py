"""What an evaluation found, and metrics.json, from which it can be opened again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from medseg.errors import Problem, SourceError
from medseg.evaluation.calibration import DEFINITIONS as CALIBRATION
from medseg.evaluation.calibration import LabelCalibration
from medseg.evaluation.case import LabelMetrics, Measures, Status
from medseg.evaluation.pairs import CasePair, find_pairs
from medseg.evaluation.summary import Summary
from medseg.labels import Labels
from medseg.metrics.definitions import METRICS, definitions
from medseg.problems import ProblemRecord, problem_records
from medseg.progress import counted, warn
from medseg.records import Record, read_record, write_record
from medseg.table import table_text
from medseg.volume import GRID_TOLERANCE

METRICS_FILE = "metrics.json"
PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class EvaluatedMasks:
    """Which masks were evaluated against which.

    Attributes:
        predictions: The folder or file of the predictions.
        references: The folder or file of the references.
        pairs: A prediction and a reference of each case.
        labels: Names and values of the labels in the masks.
        grid_tolerance: How far apart grids may be that count as one, as part of the smallest voxel edge.
        rename: Labels by the names of segments of the references.
    """

    predictions: Path
    references: Path
    pairs: tuple[CasePair, ...]
    labels: Labels
    grid_tolerance: float = GRID_TOLERANCE
    rename: Mapping[str, str] = field(default_factory=dict)


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
    """

    measures: Measures
    records: tuple[LabelMetrics, ...]
    summary: Summary
    problems: tuple[Problem, ...]
    masks: EvaluatedMasks
    calibration: Mapping[str, LabelCalibration] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @property
    def n_failed(self) -> int:
        """Returns how many predictions cannot be used."""
        return len(self.failed)

    def as_record(self) -> "MetricsRecord":
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


class LabelEntry(Record):
    """A label of a case in metrics.json: its status and, beside it, the metrics by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    status: Status


class CalibrationEntry(Record):
    """How far probabilities can be believed, by label, and what the words mean."""

    definitions: dict[str, str]
    labels: Mapping[str, LabelCalibration]


class MetricsRecord(Record):
    """The content of metrics.json. What older versions did not write has a default; what newer ones add is kept."""

    model_config = ConfigDict(extra="allow")

    predictions: str
    references: str
    rename: dict[str, str]
    grid_tolerance: float = Field(gt=0)
    labels: Labels
    tolerance_mm: dict[str, float] = Field(default_factory=dict)  # of the surface Dice, by label
    lesion_iou: float | None = None
    definitions: dict[str, str] = Field(default_factory=dict)
    summary: Summary | None = None
    calibration: CalibrationEntry | None = None  # where probabilities were saved
    cases: dict[str, dict[str, LabelEntry]]
    failed: Mapping[str, str] = Field(default_factory=dict)  # why predictions count as empty, by case
    unknown_values: dict[str, dict[int, int]] = Field(default_factory=dict)  # voxels by value, by case
    problems: tuple[ProblemRecord, ...] = ()

    @property
    def records(self) -> tuple[LabelMetrics, ...]:
        """Returns the metrics of each label of each case, those that this version knows."""
        return tuple(
            LabelMetrics(case_id=case_id, label=label, status=entry.status, values=_known(entry))
            for case_id, labels in self.cases.items()
            for label, entry in labels.items()
        )

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """Returns the cases as they stand in the file."""
        return {
            case_id: {label: entry.model_dump() for label, entry in labels.items()}
            for case_id, labels in self.cases.items()
        }

    @model_serializer(mode="wrap")
    def _without_calibration(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialized(self)
        return {key: value for key, value in content.items() if key != "calibration" or value is not None}

    def reopened(self) -> EvaluatedMasks:
        """Returns the masks that were evaluated. Raises ``SourceError`` when they are gone."""
        predictions, references = Path(self.predictions), Path(self.references)
        for folder in (predictions, references):
            if folder == folder.parent:  # all that is on the machine would be looked through
                raise SourceError(f"{folder}: is no folder of masks, as {METRICS_FILE} says; evaluate again")
        found = find_pairs(predictions, references, list(self.cases), self.rename)
        pairs = tuple(
            replace(pair, prediction=None, failure=self.failed[pair.case_id]) if pair.case_id in self.failed else pair
            for pair in found.pairs
        )
        return EvaluatedMasks(predictions, references, pairs, self.labels, self.grid_tolerance, self.rename)


def read_metrics(path: Path) -> MetricsRecord:
    """Returns the content of a metrics.json.

    Raises:
        SourceError: It is none.
    """
    return read_record(path, MetricsRecord, "run 'medseg evaluate' of this version")


def write_metrics(path: Path, evaluation: Evaluation) -> Path:
    """Writes a metrics.json.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(path, evaluation.as_record())


def _known(entry: LabelEntry) -> dict[str, float | None]:
    """Returns the metrics of an entry without what another version measured."""
    return {name: value for name, value in (entry.__pydantic_extra__ or {}).items() if name in METRICS}
