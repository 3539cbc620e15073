"""The images that predictions were made of, to show them below the masks."""

import json
from collections.abc import Mapping
from pathlib import Path

from medseg.errors import SourceError
from medseg.evaluation.pairs import Pair
from medseg.io.discover import source_of
from medseg.io.source import ImageSource


def image_of(pair: Pair, sources: Mapping[str, Path]) -> ImageSource | None:
    """What the reference was drawn on, else what predictions.json (``sources_beside``) says; None where neither is
    there any more, or it is a folder of several images."""
    if pair.reference.image is not None:
        return pair.reference.image
    return source_at(sources.get(pair.case_id))


def source_at(path: Path | None) -> ImageSource | None:
    """None where no image, or more than one, is there."""
    if path is None:
        return None
    try:
        return source_of(path)
    except SourceError:
        return None


def sources_beside(predictions: Path) -> dict[str, Path]:
    """Images by case id, as predictions.json in a folder of predictions names them; empty without that file."""
    folder = predictions if predictions.is_dir() else predictions.parent
    try:
        content = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
        return {case["case_id"]: Path(case["source"]) for case in content["cases"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
