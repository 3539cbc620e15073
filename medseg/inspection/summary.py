"""Images and labels in as few lines as fit on a screen: alike ones are put together where there are many."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.inspection.inspection import Inspection
from medseg.inspection.patients import Patient
from medseg.inspection.series import Series
from medseg.io.archives import origin

# More images than this are put together by what they have in common.
MOST_LISTED = 40


@dataclass(frozen=True)
class Row:
    """One image, or several alike; a heading where nothing but the name is given."""

    name: str
    format: str = ""
    voxels: str = ""
    spacing: str = ""
    axes: str = ""
    odd: str = ""


@dataclass(frozen=True)
class LabelRow:
    """How much of a label the cases have that have any, in ml; in pixels where these have no size."""

    name: str
    value: int
    n_cases: int
    unit: str
    amounts: tuple[float, float, float]  # median, lowest, highest


def image_rows(found: Inspection) -> Iterator[Row]:
    in_dicom = [series for patient in found.patients for study in patient.studies for series in study.series]
    if len(in_dicom) > MOST_LISTED:
        yield from _put_together(in_dicom, lambda series: series.name)
    else:
        for patient in found.patients:
            yield from _of_patient(patient)
    folders = defaultdict(list)
    for series in found.files:
        folders[series.source.path.parent].append(series)
    if len(found.files) > MOST_LISTED < 2 * len(folders):
        yield from _put_together(found.files, lambda series: series.name)
        return
    for folder, files in folders.items():
        yield Row(_below(folder, found.source))
        yield from _put_together(files, lambda _: "") if len(found.files) > MOST_LISTED else map(_row, files)


def label_rows(found: Inspection) -> Iterator[LabelRow]:
    for label in found.labels.items if found.labels else ():
        in_ml = _amounts(label.name, (case.volumes_ml for case in found.cases))
        amounts = in_ml or _amounts(label.name, (case.voxels for case in found.cases))
        spread = (statistics.median(amounts), min(amounts), max(amounts)) if amounts else (0.0, 0.0, 0.0)
        yield LabelRow(label.name, label.value, len(amounts), "ml" if in_ml else "pixels", spread)


def _amounts(label: str, of_cases: Iterable[Mapping[str, float] | None]) -> list[float]:
    return [amounts[label] for amounts in of_cases if amounts and label in amounts]


def _of_patient(patient: Patient) -> Iterator[Row]:
    for study in patient.studies:
        yield Row(" · ".join(part for part in (patient.patient_id, study.date, study.description) if part))
        yield from map(_row, study.series)


def _row(series: Series) -> Row:
    odd = [f"segments: {', '.join(series.segments)}"] if series.segments else []
    odd += ["a label map"] if series.role == "label map" and not series.segments else []
    return _joined(series.name, [series], "; ".join([*odd, *series.oddities]))


def _put_together(series: Iterable[Series], key: Callable[[Series], str]) -> Iterator[Row]:
    groups: dict[tuple[str, str, bool], list[Series]] = defaultdict(list)
    for each in series:
        groups[key(each), each.format, each.role == "label map"].append(each)
    for (name, _, are_label_maps), alike in sorted(groups.items()):
        n_odd = sum(any(each.oddities) for each in alike)
        name = f"{name or ('label maps' if are_label_maps else 'images')} ({len(alike)})"
        yield _joined(name, alike, f"{n_odd} odd" if n_odd else "")


def _joined(name: str, alike: Sequence[Series], odd: str) -> Row:
    grids = [series.grid for series in alike if series.grid is not None]
    placed = [] if alike[0].source.kind == "image2d" else grids  # pictures have pixels of no size, in no direction
    axes = sorted({grid.orientation for grid in placed})
    return Row(
        name=name,
        format=alike[0].format,
        voxels="×".join(_range([grid.shape[axis] for grid in grids]) for axis in range(3)) if grids else "",
        spacing="×".join(_range([grid.spacing[axis] for grid in placed]) for axis in range(3)) if placed else "",
        axes=", ".join(axes[:3]) + (", …" if len(axes) > 3 else ""),
        odd=odd,
    )


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    if isinstance(values[0], int):
        low, high = str(min(values)), str(max(values))
    return low if low == high else f"{low}–{high}"


def _below(folder: Path, source: Path) -> str:
    if folder.is_relative_to(source) and folder != source:
        return f"{folder.relative_to(source)}/"
    return str(origin(folder))
