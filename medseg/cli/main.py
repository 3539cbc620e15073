"""The command ``medseg``: a table of commands. Nothing heavy is imported before a command runs."""

import atexit
import gc
import io
import signal
import sys

import typer

import medseg
from medseg.cli.attention import attention
from medseg.cli.compare import compare
from medseg.cli.demo import demo
from medseg.cli.evaluate import evaluate
from medseg.cli.export import export
from medseg.cli.inspect import inspect
from medseg.cli.networks import networks
from medseg.cli.package import package
from medseg.cli.predict import predict
from medseg.cli.preprocess import preprocess
from medseg.cli.quantise import quantise
from medseg.cli.train import train
from medseg.cli.view import view
from medseg.errors import MedsegError
from medseg.progress import console, warn

INTERRUPTED = 130  # the exit status that typer gives for Ctrl-C

COMMANDS = (
    demo, inspect, preprocess, train, predict, evaluate, view, export, package, quantise, networks, compare, attention,
)  # fmt: skip

app = typer.Typer(
    name="medseg",
    help="3D medical image segmentation: DICOM or NIfTI in, U-Nets trained, masks out on the grid of the source.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command()(command)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"medseg {medseg.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of all commands."""


def main() -> None:
    """Runs the command line. Exit status: 0 done; 1 something in the input was wrong; 2 wrong use."""
    # A plain SIGTERM would leave behind what was unpacked and half written.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # At its end Python looks for garbage among all that torch and MONAI made: more than a second, for nothing.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold what the terminal, or UTF-8, has not
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except MedsegError as error:
        warn(f"Error: {error}", style="red")
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            console.print("Interrupted", style="red")
        raise


if __name__ == "__main__":
    main()
