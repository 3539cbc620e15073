"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

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

# Everything that is said on the way goes to standard error, so that --json on standard output stays clean.
console = Console(
    stderr=not IN_NOTEBOOK,
    force_jupyter=False,
    force_terminal=False if IN_NOTEBOOK else None,
    highlight=False,
    soft_wrap=not sys.stderr.isatty(),
)

SECONDS_BETWEEN_LINES = 10.0


def say(message: str) -> None:
    """One line to the person who watches; square brackets are shown as they are. The first process speaks for all."""
    if RANK == 0:
        console.print(message, markup=False)


def warn(message: str, style: str = "yellow") -> None:
    """Of each process; all but the first say which one they are."""
    console.print(f"rank {RANK}: {message}" if RANK else message, style=style, markup=False)


def counted(n: int, noun: str) -> str:
    """``"1 case"``, ``"2 cases"``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yields ``items`` and shows how many of ``total`` are done."""
    if console.is_terminal and RANK == 0:
        with bar() as progress:
            yield from progress.track(items, total=total, description=description)
        return
    last = start = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > SECONDS_BETWEEN_LINES or done == total:
            last = time.monotonic()
            say(f"{description} {done}/{total} ({last - start:.0f} s)")


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
