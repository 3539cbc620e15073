"""What an evaluation compared: enough to open it again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.errors import SourceError
from medseg.evaluation.pairs import Pair, find_pairs
from medseg.labels import Labels
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


def reopened(content: Mapping[str, Any], path: Path) -> Compared:
    """From ``content`` of metrics.json at ``path``. Raises ``SourceError`` when that does not say what was compared, or
    it is gone."""
    try:
        predictions, references = Path(content["predictions"]), Path(content["references"])
        labels = Labels.model_validate(content["labels"])
        rename, tolerance = dict(content["rename"]), float(content["grid_tolerance"])
        cases = list(content["cases"])
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{path}: does not say what was compared; run 'medseg evaluate' of this version") from error
    found = find_pairs(predictions, references, cases, rename)
    return Compared(predictions, references, found.pairs, labels, tolerance, rename)


def read_metrics(path: Path) -> dict[str, Any]:
    """The content of metrics.json. Raises ``SourceError``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read as what 'medseg evaluate' wrote ({error})") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path}: was not written by 'medseg evaluate'")
    return content
