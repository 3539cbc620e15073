"""What is odd about the cases of a source, seen beside each other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg.dataset.cases import CaseList
from medseg.inspection.channels import (
    SeriesOf,
    channel_count_findings,
    channel_grid_findings,
    copy_findings,
    spacing_findings,
)
from medseg.inspection.finding import Finding
from medseg.inspection.grids import grid_findings
from medseg.inspection.intensities import odd_value_findings
from medseg.inspection.label_map import Drawn
from medseg.inspection.label_values import (
    absent_findings,
    annotated_findings,
    number_findings,
    rare_findings,
    shape_findings,
    side_findings,
    sparse_findings,
    value_findings,
)
from medseg.labels import Labels


def comparison_findings(
    source: Path,
    cases: CaseList,
    series: SeriesOf,
    drawn: Sequence[Drawn],
    known: Labels | None,
    so_far: Sequence[Finding],
) -> list[Finding]:
    """Returns what is odd about cases when they are compared.

    What is usual in a dataset is told by the cases that can be used, as in ``preprocess``.

    Args:
        source: What is looked through.
        cases: Its cases, with the labels that their layout names.
        series: The look at each image.
        drawn: What is in the label map of each case.
        known: The labels, named or not.
        so_far: What was found before: cases with a problem say nothing about what is usual.
    """
    findings = list(so_far)
    found = len(findings)
    findings += channel_count_findings(cases.cases, cases.channels, series, _sound(cases, findings))
    findings += odd_value_findings(cases.cases, cases.channels, series, _sound(cases, findings))
    findings += value_findings(drawn, cases.labels, _sound(cases, findings))
    findings += rare_findings(source, drawn, cases.labels, _sound(cases, findings))
    findings += number_findings(source, drawn, cases.labels, _sound(cases, findings))
    findings += absent_findings(source, drawn, cases.labels)
    findings += annotated_findings(cases.cases, known)
    findings += sparse_findings(source, drawn)
    findings += shape_findings(source, drawn, known)
    findings += side_findings(drawn, cases.labels)
    return findings[found:]


def series_findings(source: Path, cases: CaseList, series: SeriesOf) -> Iterator[Finding]:
    """Yields what differs between the images of cases: grids, spacing, and images that occur twice."""
    yield from grids_compared(cases, series)
    yield from spacing_findings(source, cases.cases, series)
    yield from copy_findings(cases.cases, series)


def grids_compared(cases: CaseList, series_of: SeriesOf) -> Iterator[Finding]:
    """Yields where label maps differ from their images, and channels from each other."""
    for case in cases.cases:
        yield from channel_grid_findings(case, series_of)
        if case.label and case.label.values is None:
            yield from grid_findings(series_of[case.images[0]], series_of[case.label.sources[0]], case.case_id)


def _sound(cases: CaseList, findings: Sequence[Finding]) -> set[str]:
    """Returns the cases without a problem."""
    return {case.case_id for case in cases.cases} - {each.case_id for each in findings if each.severity == "problem"}
