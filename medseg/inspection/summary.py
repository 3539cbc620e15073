"""Images and labels in as few lines as fit on a screen: alike ones are put together where there are many."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.inspection.inspection import Inspection
from medseg.inspection.series import Role, Series, edges
from medseg.io.archives import origin
from medseg.io.source import ImageSource

MOST_ROWS = 40
ODDITIES_SHOWN = 3  # of images that are put together
SEGMENTS_SHOWN = 8

NOUNS: dict[Role, str] = {"image": "images", "label map": "label maps", "unused": "unused"}


@dataclass(frozen=True)
class ImageRow:
    """One image or segmentation, or several alike. ``heading``: the study or folder, empty for those of several."""

    heading: str
    name: str
    format: str
    voxels: str
    spacing: str  # mm
    axes: str
    holds: str  # names of segments, and what they were drawn on
    odd: tuple[str, ...]


@dataclass(frozen=True)
class LabelRow:
    """How much of a label the cases have that have any, in ml; in pixels where these have no size."""

    name: str
    value: int
    n_cases: int
    unit: str
    amounts: tuple[float, float, float]  # median, lowest, highest


def image_rows(found: Inspection) -> Iterator[ImageRow]:
    """Yields DICOM by study, then files by folder; at most ``MOST_ROWS`` of each, unless more than that differ in
    kind."""
    studies = {
        series.source: " · ".join(part for part in (patient.patient_id, study.date, study.description) if part)
        for patient in found.patients
        for study in patient.studies
        for series in study.series
    }
    folders = {series.source: _below(series.source.path.parent, found.source) for series in found.files}
    for headings in (studies, folders):
        yield from _rows([series for series in found.series if series.source in headings], headings)


def label_rows(found: Inspection) -> Iterator[LabelRow]:
    """Yields each label with the number of cases that have it, and how much of it they have."""
    for label in found.labels.items if found.labels else ():
        in_ml = _amounts(label.name, (case.volumes_ml for case in found.cases))
        amounts = in_ml or _amounts(label.name, (case.voxels for case in found.cases))
        spread = (statistics.median(amounts), min(amounts), max(amounts)) if amounts else (0.0, 0.0, 0.0)
        yield LabelRow(label.name, label.value, len(amounts), "ml" if in_ml else "pixels", spread)


def _amounts(label: str, of_cases: Iterable[Mapping[str, float] | None]) -> list[float]:
    return [amounts[label] for amounts in of_cases if amounts and label in amounts]


def _rows(series: Sequence[Series], headings: Mapping[ImageSource, str]) -> Iterator[ImageRow]:
    """Yields each series by itself where they are few; else those together that share ever less."""
    sharing: tuple[Callable[[Series], Hashable], ...] = (
        lambda each: (headings[each.source], each.source),
        lambda each: (_title(each), each.format, each.role),
        lambda each: (headings[each.source], each.format, each.role),
        lambda each: (each.format, each.role),
    )
    for key in sharing:
        groups: dict[Hashable, list[Series]] = defaultdict(list)
        for each in series:
            groups[key(each)].append(each)
        if len(groups) <= MOST_ROWS:
            break
    for alike in groups.values():
        common = {headings[each.source] for each in alike}
        yield _row(common.pop() if len(common) == 1 else "", alike)


def _row(heading: str, alike: Sequence[Series]) -> ImageRow:
    first = alike[0]
    grids = [series.grid for series in alike if series.grid is not None]
    placed = [] if first.source.kind == "image2d" else grids  # pictures have pixels of no size, in no direction
    axes = sorted({grid.orientation for grid in placed})
    return ImageRow(
        heading=heading,
        name=_name(alike),
        format=first.format,
        voxels=edges([grid.shape for grid in grids]),
        spacing=edges([grid.spacing for grid in placed]),
        axes=", ".join(axes[:3]) + (", …" if len(axes) > 3 else ""),
        holds=_held(first) if len(alike) == 1 and first.segments else "",
        odd=_odd(alike),
    )


def _name(alike: Sequence[Series]) -> str:
    role = alike[0].role
    if len(alike) == 1:
        return alike[0].name if role == "image" else f"{alike[0].name} ({role})"
    titles = {_title(series) for series in alike}
    count = f"{len(alike)} {NOUNS[role]}"
    return f"{titles.pop()}: {count}" if len(titles) == 1 else count


def _title(series: Series) -> str:
    """Returns the name that the volumes of a series, and files of one kind, have in common."""
    return series.source.description or series.source.path.name


def _held(series: Series) -> str:
    names = ", ".join(series.segments[:SEGMENTS_SHOWN]) + (", …" if len(series.segments) > SEGMENTS_SHOWN else "")
    return f"{names}, of {series.case_id}" if series.case_id else names


def _odd(alike: Sequence[Series]) -> tuple[str, ...]:
    counts = Counter(oddity for series in alike for oddity in series.oddities)
    if len(alike) == 1:
        return tuple(counts)
    return tuple(f"{oddity} ({n} of them)" for oddity, n in counts.most_common(ODDITIES_SHOWN))


def _below(folder: Path, source: Path) -> str:
    if folder.is_relative_to(source) and folder != source:
        return f"{folder.relative_to(source)}/"
    return str(origin(folder))
