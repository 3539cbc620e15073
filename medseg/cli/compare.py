"""medseg compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medseg.cli.choosing import Cluster, workers_of
from medseg.cli.json_output import print_json
from medseg.cli.plugins import Plugins
from medseg.errors import ConfigError
from medseg.progress import say

if TYPE_CHECKING:
    from medseg.evaluation.network_comparison import NetworkComparison

LEFT_OUT = ("steps", "prediction (GB)")  # for want of room; the files have them


def compare(
    prepared: Annotated[Path, typer.Argument(help="A folder that 'medseg preprocess' made.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the runs, the table and the plot.")],
    network: Annotated[
        list[str],
        typer.Option(help="Network by name, or a YAML file with settings of its own. Several; see 'medseg networks'."),
    ],
    dims: Annotated[Literal["2", "3"], typer.Option(help="Networks that see slices (2) or volumes (3).")] = "3",
    folds: Annotated[str, typer.Option(help="Which fifths of the cases validate, with commas.")] = "0",
    seeds: Annotated[str, typer.Option(help="Seeds to train each network with, with commas.")] = "0",
    max_time: Annotated[str | None, typer.Option(help="Time for each training. [default: 5m]")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of each training, instead of --max-time.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    config: Annotated[list[Path] | None, typer.Option("-c", "--config", help="YAML file with settings of all.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting of all, as in training.batch_size=4.")
    ] = None,
    plugins: Plugins = None,
    cluster: Cluster = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the content of comparison.json, no table.")] = False,
) -> None:
    """Trains several networks on one dataset, in the same time, on the same cases, and compares what they gave.

    Dice and HD95 with intervals over seeds and cases, parameters, speed, memory. Call it again to go on where it was
    stopped, or to add networks, folds or seeds. A training that fails stops nothing, and is told of in the table.

    Example:

        medseg compare prepared -o compared --network unet --network unet++ --seeds 0,1 --max-time 5m
    """
    if max_time is not None and epochs is not None:
        raise typer.BadParameter("give --max-time or --epochs, not both")
    numbers = {"--folds": _numbers("--folds", folds), "--seeds": _numbers("--seeds", seeds)}
    from medseg.config import load
    from medseg.plugins import load_plugins

    load_plugins(plugins or ())  # the settings may name what they register
    if max_time is None and epochs is None and load(config, settings).training.max_time is None:
        max_time = "5m"
    length = [f"training.max_time={max_time}"] if max_time else [f"training.epochs={epochs}"] if epochs else []
    from medseg.workflows.compare import compare as run

    with workers_of(cluster, tasks=1) as executor:
        comparison = run(
            prepared,
            output,
            network,
            dims=2 if dims == "2" else 3,
            folds=numbers["--folds"],
            seeds=numbers["--seeds"],
            configs=config or (),
            settings=[*(settings or []), *length],
            device=device,
            executor=executor,
        )
    if as_json:
        print_json(comparison.as_json())
    else:
        _show(comparison)
    say(f"Written: {', '.join(str(output / f'comparison.{kind}') for kind in ('json', 'csv', 'md', 'png'))}")
    if any(each.problems for each in comparison.networks):
        raise typer.Exit(1)


def _show(comparison: "NetworkComparison") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from medseg.report.network_comparison import COLUMNS, cells

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for name in COLUMNS:
        if name not in LEFT_OUT:
            first = name == "network"
            heading = name.replace(" (", "\n(")
            table.add_column(heading, justify="left" if first else "right", no_wrap=not first, overflow="fold")
    for each in comparison.ranked:
        row = zip(COLUMNS, cells(each), strict=True)
        table.add_row(*(cell.replace(" (", "\n(") for name, cell in row if name not in LEFT_OUT))
    Console(highlight=False).print(table)


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} {text}: write whole numbers with commas, as in 0,1") from error
