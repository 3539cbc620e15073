"""The report as one HTML file, which needs nothing but a browser."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from medseg.inspection.finding import SEVERITIES, Severity
from medseg.inspection.inspection import InspectedCase, Inspection
from medseg.inspection.series import Series, edges
from medseg.inspection.summary import label_rows
from medseg.io.archives import origin
from medseg.io.source import ImageSource
from medseg.report.page import write_page

TEMPLATE = "inspection/page.html.j2"
LABELS_SHOWN = 12


def write_inspection(found: Inspection, pictures: Mapping[ImageSource, str], path: Path) -> Path:
    """Writes what was found as a page of HTML; ``pictures`` are data URIs.

    Raises:
        OutputError: The file cannot be written.
    """
    labels = found.labels.items if found.labels else ()
    return write_page(
        path,
        TEMPLATE,
        found.source.resolve().name,
        found=found,
        pictures=pictures,
        figures=list(_figures(found)),
        groups=[list(group) for _, group in groupby(found.findings, key=lambda each: (each.severity, each.rule))],
        folders=_folders(found),
        labels=list(zip(labels, label_rows(found), strict=False))[:LABELS_SHOWN],
        more_labels=len(labels[LABELS_SHOWN:]),
        amount=_amount,
        edges=edges,
        worst=_worst,
        origin=origin,
    )


def _figures(found: Inspection) -> Iterator[tuple[int, str]]:
    if found.patients:
        yield len(found.patients), "patients"
        yield sum(len(patient.studies) for patient in found.patients), "studies"
    yield len(list(found.images)), "images"
    yield len(found.cases), "cases"
    yield sum(each.case.label is not None for each in found.cases), "with labels"
    for severity in SEVERITIES:
        yield len(found.of_severity(severity)), f"{severity}s"


def _folders(found: Inspection) -> list[tuple[str, list[Series]]]:
    """Returns images that are not DICOM, by folder below the source."""
    folders = defaultdict(list)
    for series in found.files:
        if series.role != "label map":
            folder = series.source.path.parent
            is_below = folder.is_relative_to(found.source)
            folders[str(folder.relative_to(found.source) if is_below else origin(folder))].append(series)
    return sorted(folders.items())


def _amount(case: InspectedCase, name: str) -> str:
    """Returns how much of a label there is in a case, in ml, or in pixels of a picture."""
    if case.volumes_ml is not None:
        return f"{case.volumes_ml[name]:.2f} ml" if name in case.volumes_ml else ""
    return str(case.voxels[name]) if case.voxels and name in case.voxels else ""


def _worst(series: Series) -> Severity | None:
    return min((finding.severity for finding in series.findings), key=SEVERITIES.index, default=None)
