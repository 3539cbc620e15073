"""medseg networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medseg.cli.json_output import print_json
from medseg.cli.plugins import Plugins

if TYPE_CHECKING:
    from rich.console import Console

    from medseg.workflows.networks import NetworkInfo


def networks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Networks to describe in full, with arguments.")
    ] = None,
    prepared: Annotated[
        Path | None,
        typer.Option(help="Count for the plans of this prepared dataset; else for 512×512 and 128×128×128 voxels."),
    ] = None,
    dims: Annotated[Literal["2", "3"] | None, typer.Option(help="Only the 2D or the 3D form.")] = None,
    plugins: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, no table.")] = False,
) -> None:
    """Lists the networks that --network takes: parameters, computations and memory for a patch, source.

    With --plugin also those that the plugin registers, and its losses, transforms and callbacks.

    GFLOP are to segment one patch; memory is that of a training step in float32, for a batch.

    Examples:

        medseg networks --prepared prepared --dims 3

        medseg networks unet++
    """
    from rich.console import Console

    from medseg.plugins import load_plugins

    others = [each for each in load_plugins(plugins or ()) if each.kind != "network"]
    from medseg.workflows.networks import list_networks

    found = list_networks(names or (), prepared=prepared, dims=None if dims is None else 2 if dims == "2" else 3)
    console = Console(highlight=False)
    if as_json:
        print_json([each.as_json() for each in found])
        return
    for network in found if names else ():
        _describe(network, console)
    for n in (2, 3):
        if any(cost.dims == n for each in found for cost in each.costs):
            _table(found, n, console)
    for network in found:
        for refusal in network.refusals:
            console.print(f"{network.name}, {refusal}", markup=False)
    for each in others:
        console.print(f"{each.kind} {each.name}, of {each.file}", markup=False)


def _table(found: "tuple[NetworkInfo, ...]", dims: int, console: "Console") -> None:
    from rich import box
    from rich.table import Table

    counted = [(each, cost) for each in found for cost in each.costs if cost.dims == dims]
    least = min((cost for _, cost in counted), key=lambda cost: cost.patch_size)
    patch = "×".join(map(str, least.patch_size))
    title = f"{dims}D, batches of {least.batch_size} patches of {patch} voxels"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), title=title, title_justify="left")
    table.add_column("network", no_wrap=True)
    for name in ("million\nparameters", "GFLOP\na patch", "memory\nGB"):
        table.add_column(name, justify="right", no_wrap=True, min_width=max(map(len, name.split("\n"))))
    table.add_column("source", no_wrap=True)
    for each, cost in counted:
        star = "" if cost.patch_size == least.patch_size else " *"
        numbers = (f"{cost.parameters / 1e6:.2f}", f"{cost.gflop:,.1f}", f"{cost.training_mb / 1024:.1f}")
        table.add_row(f"{each.name}{star}", *numbers, each.source.partition(", ")[0])
    console.print(table)
    if any(cost.patch_size != least.patch_size for _, cost in counted):
        console.print("* valid convolutions: larger patches, for logits of as many voxels\n", markup=False)


def _describe(network: "NetworkInfo", console: "Console") -> None:
    dims = " and ".join(f"{n}D" for n in network.dims)
    console.print(f"{network.name}: {network.title}", style="bold", markup=False)
    rate = f"learning rate {network.learning_rate:g} (with Muon or AdamW)"
    console.print(f"{network.source}. {dims}; {rate}.\n", markup=False)
    console.print(f"{network.about}\n", markup=False)
    if not network.arguments:
        console.print("It has no arguments of its own.\n")
        return
    console.print("Arguments, as in --set network.arguments.NAME=VALUE:")
    for argument in network.arguments:
        choices = f" [{', '.join(argument.choices)}]" if argument.choices else ""
        console.print(f"  {argument.name} = {argument.default}{choices}  {argument.about}".rstrip(), markup=False)
    console.print()
