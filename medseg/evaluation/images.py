"""The images that predictions were made of, to show them below the masks."""

from collections.abc import Mapping
from pathlib import Path

from medseg.errors import SourceError
from medseg.evaluation.pairs import CasePair
from medseg.io.discover import source_of
from medseg.io.source import ImageSource


def image_of(pair: CasePair, sources: Mapping[str, Path]) -> ImageSource | None:
    """Returns the image of a pair: what the reference was drawn on, else what predictions.json says.

    None where neither is there any more, or it is a folder of several images.

    Args:
        pair: Prediction and reference.
        sources: Images by case id (``sources_beside``).
    """
    if pair.reference.image is not None:
        return pair.reference.image
    return source_at(sources.get(pair.case_id))


def source_at(path: Path | None) -> ImageSource | None:
    """Returns the image at a path; None where no image, or more than one, is there."""
    if path is None:
        return None
    try:
        return source_of(path)
    except SourceError:
        return None
