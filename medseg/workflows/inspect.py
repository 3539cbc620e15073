"""inspect: find what a source holds, look at each image and label map, compare them, tell what is odd."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from medseg.dataset.cases import Case, CaseList
from medseg.dataset.image_warnings import LOST_SPACING
from medseg.dataset.layouts import cases_in
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.spacing import with_spacing
from medseg.errors import SourceError
from medseg.inspection.channels import (
    SeriesOf,
    channel_count_findings,
    channel_grid_findings,
    copy_findings,
    spacing_findings,
)
from medseg.inspection.copying import copy_of, new_folder, put_right, write_changes
from medseg.inspection.drawn import Drawn, look_at_label
from medseg.inspection.finding import DEFECT, SEVERITIES, Finding, Severity, problem_found, told
from medseg.inspection.grids import grid_findings
from medseg.inspection.inspection import FixedCopy, InspectedCase, Inspection
from medseg.inspection.intensities import odd_value_findings
from medseg.inspection.names import foreign, misnamed
from medseg.inspection.page import write_page
from medseg.inspection.patients import identity_findings, patients_of
from medseg.inspection.repair import Change
from medseg.inspection.series import DICOM, Role, Series, look_at
from medseg.inspection.thumbnail import Subject, thumbnail
from medseg.inspection.values import (
    absent_findings,
    annotated_findings,
    number_findings,
    rare_findings,
    side_findings,
    sparse_findings,
    value_findings,
)
from medseg.io.archives import contents
from medseg.io.source import Found, ImageSource
from medseg.labels import Labels
from medseg.parallel import Outcome, run_in_workers
from medseg.progress import say, track

Item = TypeVar("Item")
Result = TypeVar("Result")

# Bytes of files whose voxels are read without being asked for: some seconds on two cores.
READ_BY_ITSELF = 10**9

# What a finding may be no more than a consequence of.
CAUSES = {"unreadable": "wrong-suffix", "no-place": "lost-place"}


# Some faults can only be seen when others are put right: a label map has to be readable before its values are read.
MOST_ROUNDS = 3


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
) -> Inspection:
    """Says what a source (any that ``preprocess`` takes) holds, and what in it is odd or wrong.

    Headers and label maps are read, and with ``voxels`` the voxels of images too, which finds all damage, values that
    are no numbers, and images whose values are odd. None reads them where files take less than a gigabyte together.
    ``images``, ``labels`` and ``rename`` select and pair
    files as in ``preprocess``, and what is no problem here is none there. ``ignore_value`` is that of voxels that
    nobody annotated, where dataset.json names none, ``spacing`` that of voxels in mm whose headers lost it.

    ``html`` is a file that gets a report with a picture of each image. ``fix`` is a new folder that gets a copy of the
    source in which is put right what can be, and changes.csv, a list of what was changed. The source is never changed.

    Raises ``SourceError`` when there is no such source or nothing in it, ``ConfigError`` for patterns that match
    nothing, ``OutputError`` when a folder or file cannot be written.
    """
    source = Path(source)
    look = partial(
        look_through,
        images=images,
        labels=labels,
        rename=rename,
        voxels=voxels,
        workers=workers,
        ignore_value=ignore_value,
        spacing=spacing,
    )
    folder = None if fix is None else new_folder(Path(fix), source)
    found = look(source)
    if html is not None:
        pictures, failed = _pictures(found, workers)
        found = replace(found, findings=_in_order([*found.findings, *failed]))
        write_page(found, pictures, Path(html))
    return found if folder is None else replace(found, fixed=fixed_copy(source, folder, look))


def look_through(
    source: Path,
    *,
    images: str | Sequence[str] | None,
    labels: str | None,
    rename: Mapping[str, str] | None,
    voxels: bool | None,
    workers: int | None,
    ignore_value: int | None,
    spacing: Sequence[float] | None,
) -> Inspection:
    """Finds images and cases, looks at each, and compares them."""
    say(f"Looking through {source}")
    listing = Listing(source)
    found = listing.found
    cases, without_cases = _cases(listing, images, labels, rename)
    cases = with_spacing(cases, spacing)
    if cases.labels is not None:
        cases = replace(cases, labels=cases.labels.ignoring(ignore_value))
    series = _series(found, cases, voxels, workers)
    drawn = _drawn(cases, series, ignore_value, workers)
    known = cases.labels or _labels(drawn, ignore_value)
    patients = patients_of(list(series.values()))
    findings = [
        *without_cases,
        *_told_by_the_search(listing, cases),
        *_odd_names(listing, series),
        *(finding for each in series.values() for finding in each.findings),
        *_grids_compared(cases, series),
        *(finding for each in drawn for finding in each.findings),
        *spacing_findings(source, cases.cases, series),
        *copy_findings(cases.cases, series),
        *identity_findings(source, patients),
    ]
    # What is usual in a dataset is told by the cases that can be used, as in ``preprocess``.
    findings += channel_count_findings(cases.cases, cases.channels, series, _sound(cases, findings))
    findings += odd_value_findings(cases.cases, cases.channels, series, _sound(cases, findings))
    findings += value_findings(drawn, cases.labels, _sound(cases, findings))
    findings += rare_findings(source, drawn, cases.labels, _sound(cases, findings))
    findings += number_findings(source, drawn, cases.labels, _sound(cases, findings))
    findings += absent_findings(source, drawn, cases.labels)
    findings += annotated_findings(cases.cases, known)
    findings += sparse_findings(source, drawn)
    findings += side_findings(drawn, cases.labels)
    return Inspection(
        source=source,
        layout=cases.layout,
        channels=cases.channels,
        labels=known,
        patients=patients,
        files=tuple(each for each in series.values() if each.source.kind not in DICOM),
        cases=tuple(InspectedCase.of(each, known) for each in drawn),
        findings=_in_order(findings),
    )


def fixed_copy(source: Path, folder: Path, look: Callable[[Path], Inspection]) -> FixedCopy:
    """Copies the source, puts right what can be, and looks again at what is left."""
    copy = copy_of(source, folder)
    found = look(copy)
    changes: list[Change] = []
    for _ in range(MOST_ROUNDS):
        more = put_right(found.findings, folder)
        if not more:
            break
        changes += more
        found = look(copy)
    write_changes(folder, changes)
    return FixedCopy(folder, tuple(changes), found.findings)


def _cases(
    listing: Listing, images: str | Sequence[str] | None, labels: str | None, rename: Mapping[str, str] | None
) -> tuple[CaseList, list[Finding]]:
    """The cases; none, and a finding that says why, where no layout fits but something may be there."""
    try:
        return cases_in(listing, images=images, labels=labels, rename=rename), []
    except SourceError as error:
        if listing.path.is_file() and not listing.found.segmentations:
            raise
        # Spectra, reports or raw data alone are no fault of the data: what they are has been told.
        only_others = bool(listing.found.notes) and not listing.found.problems and not listing.found.sources
        severity: Severity = "warning" if only_others else "problem"
        finding = Finding(severity, "no-cases", listing.path, *told(str(error), listing.path))
        return CaseList("no dataset that medseg knows", (), ()), [finding]


def _series(found: Found, cases: CaseList, voxels: bool | None, workers: int | None) -> dict[ImageSource, Series]:
    """A look at every image and segmentation, those that a table lists elsewhere included."""
    roles: dict[ImageSource, tuple[Role, str]] = {}
    for case in cases.cases:
        for source in _sources(case):
            roles[source] = ("image" if source in case.images else "label map", case.case_id)
    said = {replace(source, spacing=None, structure=""): source for source in roles}
    slices = {file for source in roles if source.kind == "pictures" for file in source.files}
    others = [source for source in (*found.sources, *found.segmentations) if source.path not in slices]
    sources = list(dict.fromkeys([*(said.get(source, source) for source in others), *roles]))
    if voxels is None:
        files = {file for source in sources for file in source.files if file.is_file()}
        voxels = sum(file.stat().st_size for file in files) <= READ_BY_ITSELF
        if not voxels:
            say("Voxels of images are not read, since they are many; --voxels reads them")
    looks = {}
    what = "Reading images" if voxels else "Reading headers"
    for outcome in _in_workers(partial(look_at, voxels=voxels), sources, what, workers):
        role, case_id = roles.get(outcome.item, ("unused", ""))
        series = outcome.result or Series(outcome.item, findings=(_failed(outcome.item.path, outcome),))
        of_it = (each for each in series.findings if not (role == "label map" and each.rule == LOST_SPACING))
        findings = tuple(replace(finding, case_id=case_id) for finding in of_it)
        looks[outcome.item] = replace(series, role=role, case_id=case_id, findings=findings)
    return {source: looks[source] for source in sources}


def _drawn(cases: CaseList, series_of: SeriesOf, ignore: int | None, workers: int | None) -> list[Drawn]:
    """What is in the label map of each case, where headers show that it can be read."""
    known = cases.labels or Labels(items=())
    values = dict(zip(known.names, known.values, strict=True))
    paired = frozenset(values[name] for pair in known.left_right_pairs for name in pair)
    readable = [case for case in cases.cases if case.label and _can_be_read(case.label.sources, series_of)]
    looks = {}
    look = partial(look_at_label, paired=paired, ignore=cases.labels.ignore if cases.labels else ignore)
    for outcome in _in_workers(look, readable, "Reading label maps", workers):
        failed = Drawn(outcome.item, None, findings=(_failed(outcome.item.images[0].path, outcome),))
        looks[outcome.item.case_id] = outcome.result or failed
    return [looks.get(case.case_id, Drawn(case, None)) for case in cases.cases]


def _labels(drawn: Sequence[Drawn], ignore: int | None) -> Labels | None:
    """For label maps without names."""
    values = {value for each in drawn for value in each.voxels or ()}
    return Labels.from_values(values, ignore) if values else None


def _sound(cases: CaseList, findings: Sequence[Finding]) -> set[str]:
    """The cases without a problem."""
    return {case.case_id for case in cases.cases} - {each.case_id for each in findings if each.severity == "problem"}


def _told_by_the_search(listing: Listing, cases: CaseList) -> Iterator[Finding]:
    """Problems and notes of the search for images and of the layout; notes on a series are told with that."""
    for problem in dict.fromkeys(listing.found.problems):
        yield problem_found(problem, "unreadable", "copy or export it again")
    for problem in dict.fromkeys(cases.problems):
        if problem not in listing.found.problems:
            yield problem_found(problem, "left-out", "add what is missing, or list images and labels in a cases.csv")
    for doubt in cases.doubts:
        yield Finding("warning", "label-maps-among-images", listing.path, *told(doubt, listing.path))
    notes = ((case.case_id, note) for case in cases.cases for source in _sources(case) for note in source.notes)
    of_series = {f"{case_id}: {note}" for case_id, note in notes}
    for note in dict.fromkeys([*listing.found.notes, *cases.notes]):
        if note not in of_series:
            yield Finding("note", "search-note", listing.path, *told(note, listing.path))


def _odd_names(listing: Listing, series_of: SeriesOf) -> Iterator[Finding]:
    in_dicom = {file for source in series_of if source.kind in DICOM for file in source.files}
    files = contents(listing.path).files if listing.path.is_dir() else [listing.path]
    others = [file for file in files if file not in in_dicom]
    case_of = {source.path: series.case_id for source, series in series_of.items()}
    yield from (replace(finding, case_id=case_of.get(finding.path, "")) for finding in misnamed(others))
    yield from foreign(others)


def _grids_compared(cases: CaseList, series_of: SeriesOf) -> Iterator[Finding]:
    """Label maps with their images, channels with each other."""
    for case in cases.cases:
        yield from channel_grid_findings(case, series_of)
        if case.label and case.label.values is None:
            yield from grid_findings(series_of[case.images[0]], series_of[case.label.sources[0]], case.case_id)


def _pictures(found: Inspection, workers: int | None) -> tuple[dict[ImageSource, str], list[Finding]]:
    """A thumbnail of each image, with the label map that was drawn on it where that has no problem."""
    labels = found.labels
    colours = {label.value: label.colour for label in labels.items} if labels else {}
    spoilt = {finding.case_id for finding in found.problems}
    cases = {each.case.images[0]: each.case for each in found.cases if each.voxels and each.case.case_id not in spoilt}
    subjects = [
        Subject(series.source, cases.get(series.source), colours)
        for series in found.series
        if series.grid is not None and series.role != "label map"
    ]
    pictures, failed = {}, []
    for outcome in _in_workers(thumbnail, subjects, "Taking pictures", workers):
        if outcome.result:
            pictures[outcome.item.image] = outcome.result
        else:
            failed.append(_failed(outcome.item.image.path, outcome))
    return pictures, failed


def _in_workers(
    function: Callable[[Item], Result], items: Sequence[Item], description: str, workers: int | None
) -> Iterator[Outcome[Item, Result]]:
    outcomes = run_in_workers(function, items, workers=workers)
    yield from track(outcomes, description, len(items))


def _failed(path: Path, outcome: Outcome[Item, Result]) -> Finding:
    rule = DEFECT if outcome.is_defect else "unreadable"
    return Finding("problem", rule, path, *told(outcome.error or "cannot be read", path))


def _can_be_read(sources: Iterable[ImageSource], series_of: SeriesOf) -> bool:
    return not any(finding.rule == "unreadable" for source in sources for finding in series_of[source].findings)


def _sources(case: Case) -> Iterator[ImageSource]:
    yield from case.images
    yield from case.label.sources if case.label else ()


def _in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The most severe first, alike together. What follows from another finding on the same file is not told too."""
    ranks = {(finding.path, finding.rule): SEVERITIES.index(finding.severity) for finding in findings}
    told_once = {
        (finding.path, finding.rule, finding.what): finding
        for finding in findings
        if ranks.get((finding.path, CAUSES.get(finding.rule, "")), len(SEVERITIES)) > SEVERITIES.index(finding.severity)
    }
    return tuple(sorted(told_once.values(), key=lambda each: (SEVERITIES.index(each.severity), each.rule, each.path)))
