"""Values of label maps that cannot be meant, and labels on the wrong side."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from medseg.dataset.cases import Case
from medseg.dataset.label_shapes import shape_notes
from medseg.dataset.label_values import LEAST_GAP, REWRITABLE, rare_value_warning, rare_values, stray_values
from medseg.errors import LabelError
from medseg.inspection.finding import Finding, told
from medseg.inspection.label_map import Drawn
from medseg.inspection.repair import Revalue
from medseg.labels import MANY_LABELS, MOST_LABELS, Labels
from medseg.progress import counted, listed
from medseg.structures import check_annotated

VALUES_SHOWN = 6


def value_findings(drawn: Sequence[Drawn], known: Labels | None, sound: Collection[str]) -> Iterator[Finding]:
    """Yields values that are none of the ``known`` labels, or that were never meant.

    These are so rare in the label maps of all ``sound`` cases together that they are slips.
    """
    counts = sum((Counter(each.voxels or {}) for each in drawn if each.case.case_id in sound), Counter())
    named = None if known is None else {*known.values, *([] if known.ignore is None else [known.ignore])}
    strays = set(stray_values(counts) or ()) if named is None else counts.keys() - named
    meant = sorted({0, *(counts.keys() - strays if named is None else named)})
    for each in drawn:
        found = {value: n for value, n in (each.voxels or {}).items() if value in strays}
        if not found or each.case.label is None:
            continue
        if known is None:
            what = f"was drawn in the values {listed(meant, VALUES_SHOWN)}, but holds others too: {_with_counts(found)}"
        else:
            what = _refused(known, found)
        to_do = "correct the label map, or name all values in a dataset.json where each is a label"
        repair = None
        if each.case.label.sources[0].kind in REWRITABLE and _least_gap(meant) >= LEAST_GAP:
            repair = Revalue(tuple(meant))
            to_do = "--fix gives each voxel the nearest of these values; or name all values in a dataset.json"
        yield Finding("problem", "stray-values", each.case.label.path, what, to_do, each.case.case_id, repair)


def _least_gap(values: Sequence[int]) -> int:
    """Returns the least gap between neighbours; 0 where nothing but the background is meant."""
    return min((b - a for a, b in pairwise(values)), default=0)


def rare_findings(
    path: Path, drawn: Sequence[Drawn], known: Labels | None, sound: Collection[str]
) -> Iterator[Finding]:
    """Yields values without a name that are too rare to be meant. ``path`` is the source."""
    if known is None:
        rare = rare_values([each.voxels or {} for each in drawn if each.case.case_id in sound])
        for value, most in sorted(rare.items()):
            yield Finding("warning", "rare-value", path, *rare_value_warning(value, most))


def absent_findings(path: Path, drawn: Sequence[Drawn], known: Labels | None) -> Iterator[Finding]:
    """Yields known labels that occur in no label map. ``path`` is the source."""
    if known is not None and any(each.voxels for each in drawn):
        message = known.absent({value for each in drawn for value in each.voxels or ()})
        if message:
            yield Finding("warning", "absent-labels", path, *told(message, path))


def annotated_findings(cases: Sequence[Case], labels: Labels | None) -> Iterator[Finding]:
    """Yields cases that say of something else than a known label that it was annotated."""
    for case in cases:
        try:
            if labels is not None:
                check_annotated(case.annotated, labels.names)
        except LabelError as error:
            path = case.label.path if case.label else case.images[0].path
            yield Finding("problem", "annotated-labels", path, *told(str(error), path), case.case_id)


def sparse_findings(path: Path, drawn: Sequence[Drawn]) -> Iterator[Finding]:
    """Yields how much is annotated, where voxels have the ignore value. ``path`` is the source."""
    parts = [each.annotated_part for each in drawn if each.annotated_part < 1]
    if parts:
        cases = f"{len(parts)} of {counted(len(drawn), 'case')}"
        what = f"in {cases} not all voxels are annotated: {min(parts):.1%} to {max(parts):.1%} are"
        yield Finding("note", "sparse", path, what)


def shape_findings(path: Path, drawn: Sequence[Drawn], labels: Labels | None) -> Iterator[Finding]:
    """Yields which labels are small, thin or rare, and what would help. ``path`` is the source."""
    for note in shape_notes([each.shapes for each in drawn if each.voxels], labels):
        yield Finding("note", note.rule, path, f"{note.label} {note.what}", note.to_do)


def side_findings(drawn: Sequence[Drawn], labels: Labels | None) -> Iterator[Finding]:
    """Yields cases whose left structures lie on the patient's right (RAS: x grows to the right) of the right ones."""
    values = dict(zip(labels.names, labels.values, strict=True)) if labels else {}
    for left, right in labels.left_right_pairs if labels else ():
        for each in drawn:
            centres = each.centres or {}
            if values[left] not in centres or values[right] not in centres or each.case.label is None:
                continue
            if centres[values[left]][0] > centres[values[right]][0]:
                what = f"{left} lies to the patient's right of {right}"
                to_do = "check the names of the labels, and whether the image is mirrored"
                yield Finding("warning", "sides-swapped", each.case.label.path, what, to_do, each.case.case_id)


def number_findings(
    path: Path, drawn: Sequence[Drawn], known: Labels | None, sound: Collection[str]
) -> Iterator[Finding]:
    """Yields that there are more labels than there may be, or than structures without names are. ``path`` is the
    source."""
    values = {value for each in drawn if each.case.case_id in sound for value in each.voxels or ()}
    n = len(known.items if known else values)
    what = f"the label maps hold {n} different values, and each becomes a label of its own"
    to_do = (
        "where a value is just the number of an object (a cell, a lesion), say --instances and what the objects are; "
        "where each is a structure, name them in a dataset.json"
    )
    if n > MOST_LABELS:
        yield Finding("problem", "many-labels", path, f"{what}; at most {MOST_LABELS} can be", to_do)
    elif n > MANY_LABELS and known is None:
        yield Finding("warning", "many-labels", path, what, to_do)


def _refused(known: Labels, found: dict[int, int]) -> str:
    try:
        known.check(found)
    except LabelError as error:
        return str(error)
    return ""


def _with_counts(voxels: dict[int, int]) -> str:
    most = sorted(voxels.items(), key=lambda pair: -pair[1])
    return listed((f"{value} ({counted(n, 'voxel')})" for value, n in most), VALUES_SHOWN)
