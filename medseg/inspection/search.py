"""What the search for images and cases tells: what was found, what was not, and which names are odd."""

from collections.abc import Iterator
from dataclasses import replace

from medseg.dataset.cases import CaseList, CaseSelection
from medseg.dataset.layouts import cases_in
from medseg.dataset.layouts.listing import Listing
from medseg.errors import SourceError
from medseg.inspection.channels import SeriesOf
from medseg.inspection.file_names import foreign, misnamed
from medseg.inspection.finding import Finding, Severity, problem_found, told
from medseg.inspection.looks import sources_of
from medseg.inspection.series import DICOM
from medseg.io.archives import contents


def cases_found(listing: Listing, selection: CaseSelection) -> tuple[CaseList, list[Finding]]:
    """Returns the cases; none, and a finding that says why, where no layout fits but something may be there."""
    try:
        return cases_in(listing, selection), []
    except SourceError as error:
        if listing.path.is_file() and not listing.found.segmentations:
            raise
        # Spectra, reports or raw data alone are no fault of the data: what they are has been told.
        only_others = bool(listing.found.notes) and not listing.found.problems and not listing.found.sources
        severity: Severity = "warning" if only_others else "problem"
        finding = Finding(severity, "no-cases", listing.path, *told(str(error), listing.path))
        return CaseList("no dataset that medseg knows", (), ()), [finding]


def search_findings(listing: Listing, cases: CaseList) -> Iterator[Finding]:
    """Yields problems and notes of the search for images and of the layout; notes on a series are told with that."""
    for problem in dict.fromkeys(listing.found.problems):
        yield problem_found(problem, "unreadable", "copy or export it again")
    for problem in dict.fromkeys(cases.problems):
        if problem not in listing.found.problems:
            yield problem_found(problem, "left-out", "add what is missing, or list images and labels in a cases.csv")
    for doubt in cases.doubts:
        yield Finding("warning", "label-maps-among-images", listing.path, *told(doubt, listing.path))
    notes = ((case.case_id, note) for case in cases.cases for source in sources_of(case) for note in source.notes)
    of_series = {f"{case_id}: {note}" for case_id, note in notes}
    for note in dict.fromkeys([*listing.found.notes, *cases.notes]):
        if note not in of_series:
            yield Finding("note", "search-note", listing.path, *told(note, listing.path))


def name_findings(listing: Listing, series_of: SeriesOf) -> Iterator[Finding]:
    """Yields files whose names say something else than what is in them, and files of other kinds."""
    in_dicom = {file for source in series_of if source.kind in DICOM for file in source.files}
    files = contents(listing.path).files if listing.path.is_dir() else [listing.path]
    others = [file for file in files if file not in in_dicom]
    case_of = {source.path: series.case_id for source, series in series_of.items()}
    yield from (replace(finding, case_id=case_of.get(finding.path, "")) for finding in misnamed(others))
    yield from foreign(others)
