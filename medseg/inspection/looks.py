"""A look at each image, label map and picture, in worker processes: what cannot be read becomes a finding."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from medseg.dataset.cases import Case, CaseList
from medseg.dataset.image_warnings import LOST_SPACING
from medseg.inspection.channels import SeriesOf
from medseg.inspection.finding import DEFECT, Finding, told
from medseg.inspection.inspection import Inspection
from medseg.inspection.label_map import Drawn, look_at_label
from medseg.inspection.series import Role, Series, look_at
from medseg.inspection.thumbnail import Subject, thumbnail
from medseg.io.folders import stored_bytes
from medseg.io.source import Found, ImageSource
from medseg.labels import Labels
from medseg.outcome import Outcome
from medseg.parallel import Workers, run_in_workers
from medseg.progress import say

Item = TypeVar("Item")
Result = TypeVar("Result")

# Bytes of files whose voxels are read without being asked for: some seconds on two cores.
READ_BY_ITSELF = 10**9


def series_of_cases(found: Found, cases: CaseList, voxels: bool | None, workers: Workers) -> dict[ImageSource, Series]:
    """Returns a look at every image and segmentation, those that a table lists elsewhere included."""
    roles: dict[ImageSource, tuple[Role, str]] = {}
    for case in cases.cases:
        for source in sources_of(case):
            roles[source] = ("image" if source in case.images else "label map", case.case_id)
    said = {replace(source, spacing=None, structure=""): source for source in roles}
    slices = {file for source in roles if source.kind == "pictures" for file in source.files}
    others = [source for source in (*found.sources, *found.segmentations) if source.path not in slices]
    sources = list(dict.fromkeys([*(said.get(source, source) for source in others), *roles]))
    if voxels is None:
        files = {file for source in sources for file in source.files}
        voxels = sum(map(stored_bytes, files)) <= READ_BY_ITSELF
        if not voxels:
            say("Voxels of images are not read, since they are many; --voxels reads them")
    looks = {}
    what = "Reading images" if voxels else "Reading headers"
    for outcome in run_in_workers(partial(look_at, voxels=voxels), sources, workers=workers, description=what):
        role, case_id = roles.get(outcome.item, ("unused", ""))
        series = outcome.result or Series(outcome.item, findings=(_failed(outcome.item.path, outcome),))
        of_it = (each for each in series.findings if not (role == "label map" and each.rule == LOST_SPACING))
        findings = tuple(replace(finding, case_id=case_id) for finding in of_it)
        looks[outcome.item] = replace(series, role=role, case_id=case_id, findings=findings)
    return {source: looks[source] for source in sources}


def drawn_of_cases(cases: CaseList, series_of: SeriesOf, ignore: int | None, workers: Workers) -> list[Drawn]:
    """Returns what is in the label map of each case, where headers show that it can be read."""
    known = cases.labels or Labels(items=())
    values = dict(zip(known.names, known.values, strict=True))
    paired = frozenset(values[name] for pair in known.left_right_pairs for name in pair)
    readable = [case for case in cases.cases if case.label and _can_be_read(case.label.sources, series_of)]
    looks = {}
    ignored = cases.labels.ignore if cases.labels else ignore
    look = partial(look_at_label, paired=paired, ignore=ignored, labels=cases.labels)
    for outcome in run_in_workers(look, readable, workers=workers, description="Reading label maps"):
        failed = Drawn(outcome.item, None, findings=(_failed(outcome.item.images[0].path, outcome),))
        looks[outcome.item.case_id] = outcome.result or failed
    return [looks.get(case.case_id, Drawn(case, None)) for case in cases.cases]


def labels_drawn(drawn: Sequence[Drawn], ignore: int | None) -> Labels | None:
    """Returns labels for label maps without names; None where they hold none."""
    values = {value for each in drawn for value in each.voxels or ()}
    return Labels.from_values(values, ignore) if values else None


def pictures_of(found: Inspection, workers: Workers) -> tuple[dict[ImageSource, str], list[Finding]]:
    """Returns a thumbnail of each image, with the label map that was drawn on it where that has no problem."""
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
    for outcome in run_in_workers(thumbnail, subjects, workers=workers, description="Taking pictures"):
        if outcome.result:
            pictures[outcome.item.image] = outcome.result
        else:
            failed.append(_failed(outcome.item.image.path, outcome))
    return pictures, failed


def _failed(path: Path, outcome: Outcome[Item, Result]) -> Finding:
    rule = DEFECT if outcome.is_defect else "unreadable"
    return Finding("problem", rule, path, *told(outcome.error or "cannot be read", path))


def _can_be_read(sources: Iterable[ImageSource], series_of: SeriesOf) -> bool:
    return not any(finding.rule == "unreadable" for source in sources for finding in series_of[source].findings)


def sources_of(case: Case) -> Iterator[ImageSource]:
    """Yields the images of a case and what its label map is read from."""
    yield from case.images
    yield from case.label.sources if case.label else ()
    yield from [case.objects] if case.objects else []
