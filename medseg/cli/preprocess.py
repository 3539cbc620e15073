"""medseg preprocess."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.choosing import (
    Cluster,
    IgnoreValue,
    Images,
    Instances,
    LabelMaps,
    Registered,
    Rename,
    Spacing,
    renames,
    workers_of,
)
from medseg.cli.json_output import print_json
from medseg.cli.plugins import Plugins
from medseg.cli.status import tell_by_status
from medseg.progress import counted, listed, say

if TYPE_CHECKING:
    from medseg.config import Config
    from medseg.plan import Plan
    from medseg.preparation.prepared_folder import PreprocessResult

LABELS_SHOWN = 30


def preprocess(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of scans with or without label maps (Decathlon, nnU-Net, images/ + labels/, any folder "
            "with a mask pattern), a DICOM study with or without SEG or RTSTRUCT, a zip or tar archive of these, an "
            "address as of 'medseg fetch', a cases.csv, or one file."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the prepared dataset.")],
    images: Images = None,
    labels: LabelMaps = None,
    rename: Rename = None,
    registered: Registered = False,
    instances: Instances = None,
    ignore_value: IgnoreValue = None,
    spacing: Spacing = None,
    config: Annotated[list[Path] | None, typer.Option("-c", "--config", help="YAML file with settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as in preprocessing.spacing=[1,1,3].")
    ] = None,
    plugins: Plugins = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cases at the same time; one per core if not given.")
    ] = None,
    deidentify: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYFILE",
            help="Copy DICOM without names, dates, IDs and UIDs first (PS3.15, basic profile), and use copies only; "
            "the file gets the key that leads back, and lies elsewhere.",
        ),
    ] = None,
    cluster: Cluster = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")] = False,
) -> None:
    """Checks scans and label maps, plans the network, and stores every case ready for training.

    DICOM series also become NIfTI files, in OUTPUT/nifti. A case with a problem is left out and stands in
    OUTPUT/problems.csv; the others are done, and the exit status is 1.

    Example:

        medseg preprocess Task04_Hippocampus -o prepared
    """
    from medseg.config import load
    from medseg.plugins import load_plugins
    from medseg.workflows.preprocess import preprocess as run

    load_plugins(plugins or ())
    options = [] if workers is None else [f"preprocessing.workers={workers}"]
    options += ["preprocessing.registered=true"] if registered else []
    options += [] if ignore_value is None else [f"preprocessing.ignore_value={ignore_value}"]
    chosen = load(config, [*(settings or []), *options])
    with workers_of(cluster) as executor:
        result = run(
            source,
            output,
            config=chosen,
            images=images,
            labels=labels,
            rename=renames(rename),
            spacing=spacing,
            instances=instances or (),
            deidentify=deidentify,
            executor=executor,
        )
    if as_json:
        print_json(result.as_record().as_json())
    else:
        _show(result, chosen)
    if result.warnings:
        say(f"{counted(len(result.warnings), 'warning')}, see above: these cases were taken, and may be wrong")
    if result.problems:
        say(f"{counted(len(result.problems), 'problem')}, see above and {output / 'problems.csv'}")
        tell_by_status([problem.is_defect for problem in result.problems])


def _show(result: "PreprocessResult", config: "Config") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if result.plans is None:
        console.print(_case_table(result))
        say(f"Checked and ready to predict on: {result.folder}")
        return
    console.print(_plan_table(result, config))
    prepared = counted(len(result.record.cases), "case")
    say(f"Prepared {prepared} in {result.folder}; next: medseg train {shlex.quote(str(result.folder))} -o run")


def _case_table(result: "PreprocessResult") -> object:
    from rich.table import Column, Table

    table = Table(Column("case", overflow="fold"), "voxels", "spacing (mm)", "axes", Column("file", overflow="fold"))
    for case in result.record.cases:
        grid = case.source_grid
        table.add_row(
            case.case_id,
            "×".join(str(n) for n in grid.shape),
            "×".join(f"{s:.4g}" for s in grid.spacing),
            grid.orientation,
            case.images[0],
        )
    return table


def _plan_table(result: "PreprocessResult", config: "Config") -> object:
    from rich.table import Table

    from medseg.planning.derive import fit_to_cpu

    record, plans = result.record, result.plans
    grid = plans.plan_2d.grid if plans else None
    table = Table("plan", "", show_header=False)
    labels = record.labels.items if record.labels else ()
    table.add_row("cases", str(len(record.cases)))
    table.add_row("labels", listed((f"{label.name} ({label.value})" for label in labels), LABELS_SHOWN))
    if plans is None or grid is None:
        return table
    table.add_row("spacing", "×".join(f"{s:.4g}" for s in grid.spacing) + f" mm, axes {grid.orientation}")
    rules = zip(record.channels, grid.normalization, strict=True)
    table.add_row("normalization", ", ".join(f"{channel}: {rule.kind}" for channel, rule in rules))
    for plan in (plans.plan_2d, plans.plan_3d):
        if plan is not None:
            table.add_row(f"{plan.dims}D on a GPU", _sizes(plan))
            table.add_row(f"{plan.dims}D on a processor", _sizes(fit_to_cpu(plan, config)))
    return table


def _sizes(plan: "Plan") -> str:
    patch = "×".join(str(n) for n in plan.network_patch)
    features = "-".join(str(n) for n in plan.architecture.features)
    return f"patch {patch}, batch {plan.batch_size}, features {features}"
