"""medseg inspect."""

import json
import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.rename import Rename, renames
from medseg.progress import counted, say

if TYPE_CHECKING:
    from rich.table import Table

    from medseg.inspection.finding import Finding, Severity
    from medseg.inspection.inspection import Inspection

ALIKE_SHOWN = 3  # findings of one kind
CASES_SHOWN = 12
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
        bool, typer.Option("--voxels", help="Read all voxels too: finds all damage, and takes longer.")
    ] = False,
    images: Annotated[
        list[str] | None, typer.Option(help="Glob below SOURCE that selects images; as in 'medseg preprocess'.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Glob that selects their label maps.")] = None,
    rename: Rename = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files read at the same time; one per core if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, no tables.")] = False,
) -> None:
    """Says what a source holds (patients, series, cases, labels with volumes), what is wrong, and what to do about it.

    Nothing in the source is changed. The exit status is 1 when there are problems: what 'medseg preprocess' would leave
    out, or not see.

    Example:

        medseg inspect dicom_archive --html report.html
    """
    from medseg.workflows.inspect import inspect as run

    found = run(
        source,
        images=images,
        labels=labels,
        rename=renames(rename),
        voxels=voxels,
        html=html,
        fix=fix,
        workers=workers,
    )
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        _show(found)
    _tell_what_next(found, html)
    if found.problems:
        raise typer.Exit(1)


def _show(found: "Inspection") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_headline(found), markup=False)
    console.print(_image_table(found))
    if found.labels:
        console.print(_label_table(found))
    if 0 < len(found.cases) <= CASES_SHOWN:
        console.print(_case_table(found))
    if found.findings:
        console.print(_finding_table(found.findings, found.source))
    if found.fixed:
        console.print(_change_table(found))


def _headline(found: "Inspection") -> str:
    n_images = sum(series.role != "label map" for series in found.series)
    n_labelled = sum(case.case.label is not None for case in found.cases)
    counts = [counted(n_images, "image"), counted(len(found.cases), "case"), f"{n_labelled} with labels"]
    if found.patients:
        counts = [counted(len(found.patients), "patient"), *counts]
    return f"{found.layout}: {', '.join(counts)}"


def _image_table(found: "Inspection") -> "Table":
    from rich.markup import escape

    from medseg.inspection.summary import image_rows

    table = _table("image", "format", "voxels", "spacing (mm)", "axes", "odd")
    for column, width in zip(table.columns, (24, 7, 11, 14, 4, 20), strict=True):
        column.min_width, column.overflow = min(width, 7), "fold"
    for row in image_rows(found):
        if row.format:
            table.add_row(f"  {escape(row.name)}", row.format, row.voxels, row.spacing, row.axes, escape(row.odd))
        else:
            table.add_row(f"[bold]{escape(row.name)}[/bold]")
    return table


def _label_table(found: "Inspection") -> "Table":
    from rich.markup import escape

    from medseg.inspection.summary import label_rows

    table = _table("label", "value", "cases", "median", "lowest", "highest", "")
    for row in label_rows(found):
        amounts = [f"{amount:.4g}" for amount in row.amounts] if row.n_cases else [""] * 3
        table.add_row(escape(row.name), str(row.value), str(row.n_cases), *amounts, row.unit)
    return table


def _case_table(found: "Inspection") -> "Table":
    from rich.markup import escape

    table = _table("case", "group", "images", "labels")
    for each in found.cases:
        in_ml = [f"{name} {ml:.4g} ml" for name, ml in (each.volumes_ml or {}).items()]
        in_pixels = [f"{name} {counted(n, 'pixel')}" for name, n in (each.voxels or {}).items()]
        drawn = ", ".join(in_ml or in_pixels) or ("none" if each.case.label is None else "–")
        table.add_row(each.case.case_id, escape(each.case.group), str(len(each.case.images)), escape(drawn))
    return table


def _finding_table(findings: "Sequence[Finding]", source: Path) -> "Table":
    """A few of each kind; what to do is said once where it is the same."""
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for (severity, _), group in groupby(findings, key=lambda each: (each.severity, each.rule)):
        alike = list(group)
        for i, finding in enumerate(alike[:ALIKE_SHOWN]):
            first = f"[{COLOURS[severity]}]{severity}[/]" if i == 0 else ""
            table.add_row(first, escape(f"{_where(finding, source)}{finding.what}"))
            if finding.to_do and finding.to_do not in {other.to_do for other in alike[i + 1 : ALIKE_SHOWN]}:
                table.add_row("", f"[cyan]→[/] {escape(finding.to_do)}")
        if len(alike) > ALIKE_SHOWN:
            table.add_row("", f"[dim]… and {len(alike) - ALIKE_SHOWN} more of this kind (all in --html and --json)[/]")
    return table


def _change_table(found: "Inspection") -> "Table":
    from rich.markup import escape

    table = _table("changed in the copy", "what", "before", "after")
    for change in found.fixed.changes if found.fixed else ():
        path = change.path.relative_to(found.fixed.folder) if found.fixed else change.path
        table.add_row(escape(str(path)), change.what, escape(change.before), escape(change.after))
    return table


def _table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _where(finding: "Finding", source: Path) -> str:
    """The path below the source, and the case where its name does not say it."""
    from medseg.io.archives import origin

    if finding.path == source:
        return ""
    path = finding.path.relative_to(source) if finding.path.is_relative_to(source) else origin(finding.path)
    return f"{path}: " if not finding.case_id or finding.case_id in str(path) else f"{finding.case_id}, {path}: "


def _tell_what_next(found: "Inspection", html: Path | None) -> None:
    source = shlex.quote(str(found.source))
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
        say(f"{n_fixable} of these can be put right in a copy: medseg inspect {source} --fix FOLDER")
    if found.cases:
        command = f"preprocess {source} -o prepared" if found.labels else f"predict MODEL {source} -o masks"
        say(f"Next: medseg {command}")
