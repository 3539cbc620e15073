"""medseg inspect."""

import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.choosing import Cluster, IgnoreValue, Images, Instances, LabelMaps, Rename, Spacing, renames, workers_of
from medseg.cli.json_output import print_json
from medseg.cli.status import tell_by_status
from medseg.progress import counted, listed, say

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from medseg.inspection.finding import Finding, Severity
    from medseg.inspection.inspection import InspectedCase, Inspection

ALIKE_SHOWN = 3  # findings of one kind
CASES_SHOWN = 12
LABELS_SHOWN = 12
LABELS_OF_CASE = 6
CHANGES_SHOWN = 12

# Columns of characters.
GAP = 2
INDENT = 2
NARROWEST = 14  # that the names of images get
COLOURS: dict["Severity", str] = {"problem": "red", "warning": "yellow", "note": "dim"}


def inspect(
    source: Annotated[
        Path, typer.Argument(help="Anything that 'medseg preprocess' takes: a folder, a study, an archive, a file.")
    ],
    html: Annotated[
        Path | None, typer.Option(help="HTML file for a report with a picture of each image.", show_default=False)
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="New folder for a copy in which is put right what can be, with changes.csv."),
    ] = None,
    voxels: Annotated[
        bool | None,
        typer.Option(
            help="Read the voxels of images too: finds all damage and odd values. By itself where files take less than "
            "a gigabyte together."
        ),
    ] = None,
    images: Images = None,
    labels: LabelMaps = None,
    rename: Rename = None,
    instances: Instances = None,
    ignore_value: IgnoreValue = None,
    spacing: Spacing = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files read at the same time; one per core if not given.")
    ] = None,
    cluster: Cluster = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, no tables.")] = False,
) -> None:
    """Says what a source holds (patients, series, cases, labels with volumes), what is wrong, and what to do about it.

    Nothing in the source is changed. The exit status is 1 when there are problems: what 'medseg preprocess' would leave
    out, or not see.

    Example:

        medseg inspect dicom_archive --html report.html
    """
    from medseg.inspection.finding import DEFECT
    from medseg.workflows.inspect import inspect as run

    with workers_of(cluster) as executor:
        found = run(
            source,
            images=images,
            labels=labels,
            rename=renames(rename),
            voxels=voxels,
            html=html,
            fix=fix,
            workers=workers,
            ignore_value=ignore_value,
            spacing=spacing,
            instances=instances or (),
            executor=executor,
        )
    if as_json:
        print_json(found.as_json())
    else:
        _show(found)
    _tell_what_next(found, html, spacing)
    tell_by_status([problem.rule == DEFECT for problem in found.problems])


def _show(found: "Inspection") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_headline(found), markup=False)
    for part in (*_images(found, console.width), *_tables(found), *_findings(found)):
        console.print(part)


def _headline(found: "Inspection") -> str:
    n_labelled = sum(case.case.label is not None for case in found.cases)
    counts = [counted(len(list(found.images)), "image"), counted(len(found.cases), "case"), f"{n_labelled} with labels"]
    if found.patients:
        counts = [counted(len(found.patients), "patient"), *counts]
    return f"{found.layout}: {', '.join(counts)}"


def _images(found: "Inspection", width: int) -> "Iterator[RenderableType]":
    """Yields rows in columns; headings and what is odd take the whole width."""
    from rich.cells import cell_len
    from rich.padding import Padding
    from rich.text import Text

    from medseg.inspection.summary import image_rows

    titles = ("format", "voxels", "spacing (mm)", "axes")
    rows = list(image_rows(found))
    cells = [(row.format, row.voxels, row.spacing, row.axes) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
    longest = max((cell_len(row.name) for row in rows), default=0)
    first = max(NARROWEST, min(longest, width - sum(widths) - GAP * len(widths) - INDENT))
    heading = ""
    if rows:
        yield ""
        yield _line(("image", *titles), (first, *widths))
    for row, values in zip(rows, cells, strict=True):
        if row.heading != heading:
            heading = row.heading
            yield Text(heading or "in several places", "bold")
        is_long = cell_len(row.name) > first
        if is_long:
            yield Padding(Text(row.name), (0, 0, 0, INDENT))
        if row.holds:
            yield _line(("" if is_long else row.name, row.format, row.holds), (first, widths[0], None))
        else:
            yield _line(("" if is_long else row.name, *values), (first, *widths))
        yield from (Padding(Text(oddity, "yellow"), (0, 0, 0, 2 * INDENT)) for oddity in row.odd)


def _line(cells: Sequence[str], widths: Sequence[int | None]) -> "RenderableType":
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, GAP, 0, 0))
    for width in widths:
        table.add_column(width=width, overflow="fold")
    table.add_row(*map(Text, cells))
    return Padding(table, (0, 0, 0, INDENT), expand=False)


def _tables(found: "Inspection") -> "Iterator[RenderableType]":
    """Yields tables of labels, of cases where they are few, and of what was changed in a copy."""
    from medseg.inspection.summary import label_rows

    labels = [
        (row.name, row.value, row.n_cases, *(f"{amount:.4g}" for amount in row.amounts), row.unit)
        for row in label_rows(found)
    ]
    cases = [(each.case.case_id, each.case.group, len(each.case.images), _drawn(each)) for each in found.cases]
    fixed = found.fixed
    changes = [(each.path.relative_to(fixed.folder), each.what) for each in fixed.changes] if fixed else []
    if labels:
        titles = ("label", "value", "cases", "median", "lowest", "highest", "")
        yield ""
        yield _table(titles, _first(labels, LABELS_SHOWN, "label"))
    if 0 < len(cases) <= CASES_SHOWN:
        yield ""
        yield _table(("case", "group", "images", "labels"), cases)
    if changes:
        yield ""
        yield _table(("changed in the copy", "what"), _first(changes, CHANGES_SHOWN, "change"))


def _drawn(case: "InspectedCase") -> str:
    if case.voxels is None:
        return "none" if case.case.label is None else "–"
    amounts = [
        f"{name} {case.volumes_ml[name]:.4g} ml" if case.volumes_ml else f"{name} {counted(n, 'pixel')}"
        for name, n in case.voxels.items()
    ]
    amounts += [f"{counted(n, 'object')} of {name}" for name, n in (case.n_objects or {}).items()]
    drawn = listed(amounts, LABELS_OF_CASE)
    if case.case.annotated is not None:
        drawn += f"; only {', '.join(case.case.annotated)} annotated"
    return drawn if case.annotated_part == 1 else f"{drawn}; {case.annotated_part:.1%} of the voxels annotated"


def _first(rows: Sequence[Sequence[object]], most: int, noun: str) -> list[Sequence[object]]:
    more = len(rows) - most
    return [*rows[:most], *([(f"… {counted(more, f'more {noun}')}",)] if more > 0 else [])]


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table


def _findings(found: "Inspection") -> "Iterator[RenderableType]":
    """Yields a few findings of each kind; what to do is said once where it is the same."""
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, GAP))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for (severity, _), group in groupby(found.findings, key=lambda each: (each.severity, each.rule)):
        alike = list(group)
        for i, finding in enumerate(alike[:ALIKE_SHOWN]):
            first = f"[{COLOURS[severity]}]{severity}[/]" if i == 0 else ""
            table.add_row(first, escape(f"{_where(finding, found.source)}{finding.what}"))
            if finding.to_do and finding.to_do not in {other.to_do for other in alike[i + 1 : ALIKE_SHOWN]}:
                table.add_row("", f"[cyan]→[/] {escape(finding.to_do)}")
        if len(alike) > ALIKE_SHOWN:
            table.add_row("", f"[dim]… and {len(alike) - ALIKE_SHOWN} more of this kind (all in --html and --json)[/]")
    if found.findings:
        yield ""
        yield table


def _where(finding: "Finding", source: Path) -> str:
    """Returns the path below the source, and the case where its name does not say it."""
    from medseg.io.archives import origin

    if finding.path == source:
        return ""
    path = finding.path.relative_to(source) if finding.path.is_relative_to(source) else origin(finding.path)
    return f"{path}: " if not finding.case_id or finding.case_id in str(path) else f"{finding.case_id}, {path}: "


def _tell_what_next(found: "Inspection", html: Path | None, spacing: tuple[float, float, float] | None) -> None:
    source = shlex.quote(str(found.source))
    said = f" --spacing {' '.join(f'{edge:g}' for edge in spacing)}" if spacing else ""
    counts = [counted(len(found.of_severity(severity)), severity) for severity in COLOURS]
    say(", ".join(counts))
    if html is not None:
        say(f"Written: {html}")
    n_fixable = sum(finding.repair is not None for finding in found.findings)
    if found.fixed:
        left = sum(finding.severity == "problem" for finding in found.fixed.left)
        say(
            f"{counted(len(found.fixed.changes), 'change')} in the copy {found.fixed.folder}, listed in changes.csv; "
            f"{counted(left, 'problem')} left in it"
        )
    elif n_fixable:
        say(f"{n_fixable} of these can be put right in a copy: medseg inspect {source}{said} --fix FOLDER")
    if found.cases:
        command = f"preprocess {source} -o prepared" if found.labels else f"predict MODEL {source} -o masks"
        say(f"Next: medseg {command}{said}")
