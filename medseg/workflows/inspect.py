"""inspect: find what a source holds, look at each image and label map, compare them, tell what is odd."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medseg.dataset.cases import CaseSelection, as_names
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.spacing import with_spacing
from medseg.inspection.comparison import comparison_findings, series_findings
from medseg.inspection.finding import findings_in_order
from medseg.inspection.fixed_copy import copy_of, new_folder, put_right, write_changes
from medseg.inspection.inspection import FixedCopy, InspectedCase, Inspection
from medseg.inspection.looks import drawn_of_cases, labels_drawn, pictures_of, series_of_cases
from medseg.inspection.page import write_inspection
from medseg.inspection.patients import identity_findings, patients_of
from medseg.inspection.repair import FileChange
from medseg.inspection.search import cases_found, name_findings, search_findings
from medseg.inspection.series import DICOM
from medseg.parallel import Workers
from medseg.progress import say
from medseg.remote_workers import RemoteWorkers

# Some faults can only be seen when others are put right: a label map has to be readable before its values are read.
MOST_ROUNDS = 3


@dataclass(frozen=True)
class InspectionOptions:
    """Which cases are looked at, and how; see ``inspect``."""

    cases: CaseSelection
    voxels: bool | None = None
    workers: Workers = None
    ignore_value: int | None = None
    spacing: Sequence[float] | None = None


def inspect(
    source: str | Path,
    *,
    images: str | Sequence[str] | None = None,
    labels: str | None = None,
    rename: Mapping[str, str] | None = None,
    voxels: bool | None = None,
    html: str | Path | None = None,
    fix: str | Path | None = None,
    workers: int | None = None,
    ignore_value: int | None = None,
    spacing: Sequence[float] | None = None,
    instances: str | Sequence[str] = (),
    executor: Executor | None = None,
) -> Inspection:
    """Says what a source holds, and what in it is odd or wrong. The source is never changed.

    What is no problem here is none for ``preprocess``.

    Args:
        source: Any source that ``preprocess`` takes.
        images: A pattern of the files of images, or one a channel, as in ``preprocess``.
        labels: A pattern of the files of label maps, as in ``preprocess``.
        rename: New names of structures by the names in the files.
        voxels: Whether the voxels of images are read too, which finds all damage, values that are no numbers, and
            images whose values are odd. None reads them where files take less than a gigabyte together. Headers and
            label maps are always read.
        html: A file that gets a report with a picture of each image.
        fix: A new folder that gets a copy of the source in which is put right what can be, and changes.csv, a list of
            what was changed.
        workers: Processes that look at files; None takes one a core.
        ignore_value: The value of voxels that nobody annotated, where dataset.json names none.
        spacing: Of voxels in mm, in array-axis order, where headers lost it.
        instances: The names of labels whose objects are told apart, as in ``preprocess``.
        executor: Looks at files, in place of processes of this machine: see ``medseg.open_cluster``.

    Returns:
        Images, cases, labels, patients and findings, the most severe first.

    Raises:
        SourceError: There is no such source, or nothing in it.
        ConfigError: A pattern matches nothing.
        OutputError: A folder or file cannot be written.
    """
    source = Path(source)
    selection = CaseSelection(images, labels, rename=rename, instances=as_names(instances))
    by = workers if executor is None else RemoteWorkers(executor, (source,))
    options = InspectionOptions(selection, voxels, by, ignore_value, spacing)
    folder = None if fix is None else new_folder(Path(fix), source)
    found = look_through(source, options)
    if html is not None:
        pictures, failed = pictures_of(found, by)
        found = replace(found, findings=findings_in_order([*found.findings, *failed]))
        write_inspection(found, pictures, Path(html))
    if folder is None:
        return found
    return replace(found, fixed=fixed_copy(source, folder, partial(look_through, options=options)))


def look_through(source: Path, options: InspectionOptions) -> Inspection:
    """Finds images and cases, looks at each, and compares them."""
    say(f"Looking through {source}")
    listing, ignore = Listing(source), options.ignore_value
    cases, without_cases = cases_found(listing, options.cases)
    cases = with_spacing(cases, options.spacing)
    if cases.labels is not None:
        cases = replace(cases, labels=cases.labels.ignoring(ignore))
    series = series_of_cases(listing.found, cases, options.voxels, options.workers)
    drawn = drawn_of_cases(cases, series, ignore, options.workers)
    known = cases.labels or labels_drawn(drawn, ignore)
    patients = patients_of(list(series.values()))
    findings = [
        *without_cases,
        *search_findings(listing, cases),
        *name_findings(listing, series),
        *(finding for each in series.values() for finding in each.findings),
        *(finding for each in drawn for finding in each.findings),
        *series_findings(source, cases, series),
        *identity_findings(source, patients),
    ]
    findings += comparison_findings(source, cases, series, drawn, known, findings)
    return Inspection(
        source=source,
        layout=cases.layout,
        channels=cases.channels,
        labels=known,
        patients=patients,
        files=tuple(each for each in series.values() if each.source.kind not in DICOM),
        cases=tuple(InspectedCase.of(each, known) for each in drawn),
        findings=findings_in_order(findings),
    )


def fixed_copy(source: Path, folder: Path, look: Callable[[Path], Inspection]) -> FixedCopy:
    """Copies the source, puts right what can be, and looks again at what is left."""
    copy = copy_of(source, folder)
    found = look(copy)
    changes: list[FileChange] = []
    for _ in range(MOST_ROUNDS):
        more = put_right(found.findings, folder)
        if not more:
            break
        changes += more
        found = look(copy)
    write_changes(folder, changes)
    return FixedCopy(folder, tuple(changes), found.findings)
