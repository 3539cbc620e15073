"""What medseg tells while it works: records of ``logging``, which the command line shows, and progress bars.

The library is silent by itself. Each module logs under its own name (``medseg.workflows.train``, …): what is done at
level INFO, what may be wrong at level WARNING. ``show_progress`` shows all of it on standard error, as the command
line does; a program with handlers of its own needs no more than these.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

# In a notebook standard error is red, and rich would make a box of each line: plain standard output reads best.
IN_NOTEBOOK = "ipykernel" in sys.modules

# Which of the processes of a run this is, when torchrun started several.
RANK = int(os.environ.get("RANK", "0"))

# Everything that is said on the way goes to standard error, so that --json on standard output stays clean. It is quiet
# until ``show_progress`` is called.
console = Console(
    stderr=not IN_NOTEBOOK,
    force_jupyter=False,
    force_terminal=False if IN_NOTEBOOK else None,
    highlight=False,
    soft_wrap=not sys.stderr.isatty(),
    quiet=True,
)

SECONDS_BETWEEN_LINES = 10.0

STYLES = {logging.WARNING: "yellow", logging.ERROR: "red"}


class ConsoleHandler(logging.Handler):
    """Shows records on the console: plain what is done, yellow what may be wrong, red what failed.

    Of several processes the first speaks for all; of the others only warnings are shown, with their rank.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record; square brackets are shown as they are."""
        text = self.format(record)
        if record.levelno < logging.INFO:  # a traceback, whose lines stay as they are
            console.print(text, markup=False, soft_wrap=True)
        elif record.levelno < logging.WARNING:
            if RANK == 0:
                console.print(text, markup=False)
        else:
            shown = f"rank {RANK}: {text}" if RANK else text
            console.print(shown, style=STYLES.get(record.levelno), markup=False)


_HANDLER = ConsoleHandler()


def show_progress(shown: bool = True) -> None:
    """Shows on standard error what medseg is doing, as the command line does, or no longer.

    Without it, ``import medseg`` is silent, except for handlers that the program itself gave to the logger "medseg".

    Args:
        shown: Whether messages and progress bars are shown.
    """
    logger = logging.getLogger("medseg")
    console.quiet = not shown
    logger.removeHandler(_HANDLER)
    if shown:
        logger.addHandler(_HANDLER)
        if logger.level in (logging.NOTSET, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.setLevel(logging.INFO)


def say(message: str) -> None:
    """Logs what is done, at level INFO, under the name of the module that calls."""
    _log(logging.INFO, message)


def warn(message: str) -> None:
    """Logs what may be wrong, at level WARNING, under the name of the module that calls."""
    _log(logging.WARNING, message)


def _log(level: int, message: str) -> None:
    module = str(sys._getframe(2).f_globals.get("__name__"))
    name = module if module.startswith("medseg.") else "medseg"  # of plugins, too
    logging.getLogger(name).log(level, message, stacklevel=3)


def counted(n: int, noun: str) -> str:
    """Returns a number with its noun: ``"1 case"``, ``"2 cases"``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(items: Iterable[object], most: int = 5) -> str:
    """Returns the first items in a row, and how many more there are: ``"a, b, c and 4 more"``.

    Args:
        items: What is named, as ``str`` writes it.
        most: How many are named.
    """
    names = [str(item) for item in items]
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def draws_on_terminal() -> bool:
    """Returns whether bars and tables are drawn: on a terminal, where progress is shown at all."""
    return console.is_terminal and not console.quiet


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yields ``items`` and shows how many are done.

    A terminal gets a bar; a log gets a line every ten seconds, and one at the end.

    Args:
        items: What is yielded.
        description: Of the bar.
        total: How many items there are.
    """
    if draws_on_terminal() and RANK == 0:
        with _bar() as progress:
            yield from progress.track(items, total=total, description=description)
        return
    last = start = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > SECONDS_BETWEEN_LINES or done == total:
            last = time.monotonic()
            say(f"{description} {done}/{total} ({last - start:.0f} s)")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
