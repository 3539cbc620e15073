"""Voxel sizes that the user says, where those in the headers of images were lost."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from medseg.dataset.cases import Case, CaseList
from medseg.errors import ConfigError
from medseg.progress import counted
from medseg.volume import Spacing3

# In mm: electron microscopes see nanometres, and no scanner leaves out ten centimetres.
SMALLEST, LARGEST = 1e-7, 100.0

Edge = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
SaidSpacing = tuple[Edge, Edge, Edge]  # as records hold it


def checked_spacing(given: str | Sequence[float | str], where: str = "--spacing") -> Spacing3:
    """Returns three edge lengths in mm, in array-axis order.

    Args:
        given: Numbers, or text such as ``"1.25 1.25 10"`` and ``"1.25×1.25×10"``.
        where: Where they stand, for messages.

    Raises:
        ConfigError: They are not three, or no sizes of voxels.
    """
    parts = [part for part in re.split(r"[\s,;x×\[\]()]+", given) if part] if isinstance(given, str) else list(given)
    try:
        x, y, z = (float(part) for part in parts)
    except (TypeError, ValueError):
        x = y = z = math.nan
    if not all(SMALLEST <= edge <= LARGEST for edge in (x, y, z)):
        shown = given if isinstance(given, str) else " ".join(map(str, given))
        raise ConfigError(
            f"{where} '{shown}': has to be the edge lengths of a voxel along x, y and z in mm, three numbers from "
            f"{SMALLEST:g} to {LARGEST:g}, as in 1.25 1.25 10"
        )
    return x, y, z


def shown_spacing(spacing: Sequence[float]) -> str:
    """Returns it as it is written on the command line: ``"1.25 1.25 10"``."""
    return " ".join(f"{edge:g}" for edge in spacing)


def with_spacing(found: CaseList, given: str | Sequence[float] | None) -> CaseList:
    """Returns all cases with the spacing that the user says.

    Cases that have one of their own (a column of cases.csv, or a prepared dataset) keep it.

    Raises:
        ConfigError: It is no spacing.
    """
    if given is None:
        return found
    spacing = checked_spacing(given)
    others = sum(case.spacing not in (None, spacing) for case in found.cases)
    note = f"--spacing {shown_spacing(spacing)} does not hold for {counted(others, 'case')} with a spacing of its own"
    cases = tuple(spaced(case, case.spacing or spacing) for case in found.cases)
    return replace(found, cases=cases, notes=(*found.notes, *([note] if others else [])))


def spaced(case: Case, spacing: Spacing3 | None) -> Case:
    """Returns a case whose images and label map have a said spacing.

    Segments with names lie in the world of its header, not on voxels, and keep their place.
    """
    if spacing is None:
        return case
    images = tuple(replace(image, spacing=spacing) for image in case.images)
    label = case.label
    if label is not None and all(not source.has_segments or source.structure for source in label.sources):
        label = replace(label, sources=tuple(replace(source, spacing=spacing) for source in label.sources))
    return replace(case, images=images, label=label)
