"""What an evaluation compared: enough to open it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from medseg.errors import SourceError
from medseg.evaluation.case import LabelMetrics, Status
from medseg.evaluation.pairs import Pair, find_pairs
from medseg.labels import Labels
from medseg.metrics.definitions import METRICS
from medseg.records import Record, read_record
from medseg.volume import GRID_TOLERANCE

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Compared:
    """Predictions, references and their pairs. Masks are in the values of ``labels``."""

    predictions: Path
    references: Path
    pairs: tuple[Pair, ...]
    labels: Labels
    grid_tolerance: float = GRID_TOLERANCE
    rename: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "predictions": str(self.predictions.resolve()),
            "references": str(self.references.resolve()),
            "rename": dict(self.rename),
            "grid_tolerance": self.grid_tolerance,
            "labels": self.labels.model_dump(mode="json"),
        }


class Measured(Record):
    """A label of a case: its status and, beside it, the metrics by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    status: Status


class MetricsRecord(Record):
    """What is read of metrics.json."""

    model_config = ConfigDict(extra="allow")

    predictions: str
    references: str
    rename: dict[str, str]
    grid_tolerance: float = Field(gt=0)
    labels: Labels
    cases: dict[str, dict[str, Measured]]
    failed: Mapping[str, str] = Field(default_factory=dict)  # why predictions count as empty, by case

    @property
    def records(self) -> tuple[LabelMetrics, ...]:
        return tuple(
            LabelMetrics(case_id=case_id, label=label, status=measured.status, values=known(measured))
            for case_id, labels in self.cases.items()
            for label, measured in labels.items()
        )

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """The cases as they stand in the file."""
        return {
            case_id: {label: measured.model_dump() for label, measured in labels.items()}
            for case_id, labels in self.cases.items()
        }

    def reopened(self) -> Compared:
        """Raises ``SourceError`` when what was compared is gone."""
        predictions, references = Path(self.predictions), Path(self.references)
        for folder in (predictions, references):
            if folder == folder.parent:  # all that is on the machine would be looked through
                raise SourceError(f"{folder}: is no folder of masks, as {METRICS_FILE} says; evaluate again")
        found = find_pairs(predictions, references, list(self.cases), self.rename)
        pairs = tuple(
            replace(pair, prediction=None, failure=self.failed[pair.case_id]) if pair.case_id in self.failed else pair
            for pair in found.pairs
        )
        return Compared(predictions, references, pairs, self.labels, self.grid_tolerance, self.rename)


def known(measured: Measured) -> dict[str, float | None]:
    """Without what another version measured."""
    return {name: value for name, value in (measured.__pydantic_extra__ or {}).items() if name in METRICS}


def read_metrics(path: Path) -> MetricsRecord:
    """The content of metrics.json. Raises ``SourceError``."""
    return read_record(path, MetricsRecord, "run 'medseg evaluate' of this version")
