"""The command ``medseg``: a table of commands. Nothing heavy is imported before a command runs."""

import atexit
import gc
import io
import logging
import signal
import sys

import typer

from medseg.cli.annotate import annotate
from medseg.cli.attention import attention
from medseg.cli.compare import compare
from medseg.cli.demo import demo
from medseg.cli.doctor import doctor
from medseg.cli.evaluate import evaluate
from medseg.cli.export import export
from medseg.cli.fetch import fetch
from medseg.cli.help import Command, command_name
from medseg.cli.import_model import import_model
from medseg.cli.inspect import inspect
from medseg.cli.models import models
from medseg.cli.networks import networks
from medseg.cli.package import package
from medseg.cli.predict import predict
from medseg.cli.preprocess import preprocess
from medseg.cli.quantise import quantise
from medseg.cli.send import send
from medseg.cli.serve import serve
from medseg.cli.status import FAULT_OF_INPUT, FAULT_OF_OURS
from medseg.cli.study import study
from medseg.cli.tile import join_tiles, tile
from medseg.cli.train import train
from medseg.cli.view import view
from medseg.errors import MedsegError, cause_of, defect, of_the_machine
from medseg.plugin_errors import error_of_plugin
from medseg.progress import console, show_progress
from medseg.version import VERSION

DEBUG = "--debug"
INTERRUPTED = 130  # the exit status that typer gives for Ctrl-C

logger = logging.getLogger("medseg")

COMMANDS = (
    demo, inspect, preprocess, train, predict, evaluate, view, annotate, serve, study, fetch, send, export, package,
    import_model, models, quantise, networks, compare, attention, tile, join_tiles, doctor,
)  # fmt: skip

app = typer.Typer(
    name="medseg",
    help="3D medical image segmentation: DICOM or NIfTI in, U-Nets trained, masks out on the grid of the source.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command(command_name(command), cls=Command)(command)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"medseg {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
    debug: bool = typer.Option(False, DEBUG, help="Show where in the code an error came about, and what caused it."),
) -> None:
    """Options of all commands."""
    if debug:
        logger.setLevel(logging.DEBUG)


def main() -> None:
    """Runs the command line. Exit status: 0 done; 1 something in the input was wrong; 2 wrong use; 3 a defect of
    medseg."""
    # A plain SIGTERM would leave behind what was unpacked and half written.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # At its end Python looks for garbage among all that torch and MONAI made: more than a second, for nothing.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold what the terminal, or UTF-8, has not
            stream.reconfigure(errors="backslashreplace")
    show_progress()
    try:
        app(sorted(sys.argv[1:], key=lambda argument: argument != DEBUG))  # it may stand after the command, too
    except Exception as error:
        logger.debug("", exc_info=error)
        cause = cause_of(error)
        reason = str(cause) if isinstance(cause, MedsegError) else of_the_machine(cause) or error_of_plugin(cause)
        logger.error(f"Error: {reason or defect(error)}")
        sys.exit(FAULT_OF_INPUT if reason else FAULT_OF_OURS)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            console.print("Interrupted", style="red")
        raise


if __name__ == "__main__":
    main()
