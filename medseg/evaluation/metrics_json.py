"""metrics.json: what an evaluation measured; its record, reader and writer. An evaluation can be opened from it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from medseg.errors import SourceError
from medseg.evaluation.calibration import LabelCalibration
from medseg.evaluation.case import LabelMetrics, Status
from medseg.evaluation.pairs import EvaluatedMasks, find_pairs
from medseg.evaluation.summary import Summary
from medseg.labels import Labels
from medseg.metrics.definitions import METRICS
from medseg.problems import ProblemRecord
from medseg.records import Record, read_record, write_record

METRICS_FILE = "metrics.json"


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
        """The metrics of each label of each case, those that this version knows."""
        return tuple(
            LabelMetrics(case_id=case_id, label=label, status=entry.status, values=_known(entry))
            for case_id, labels in self.cases.items()
            for label, entry in labels.items()
        )

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """The cases as they stand in the file: what was measured, by case and label."""
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
        found = find_pairs(predictions, references, list(self.cases), self.rename, self.labels.instances)
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


def write_metrics(folder: Path, metrics: MetricsRecord) -> Path:
    """Writes metrics.json into a folder; it appears whole.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(folder / METRICS_FILE, metrics)


def _known(entry: LabelEntry) -> dict[str, float | None]:
    """Returns the metrics of an entry without what another version measured."""
    return {name: value for name, value in (entry.__pydantic_extra__ or {}).items() if name in METRICS}
