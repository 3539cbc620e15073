"""What became of one item of the work on many: a result, or an error in words, and what was logged meanwhile."""

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeVar

from medseg.errors import MedsegError, Problem, cause_of, defect, of_the_machine

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class UnfitWorkerError(MedsegError):
    """A worker cannot work on any item: it does not see the files, lacks the device, or has another medseg."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of one item.

    Attributes:
        item: What was worked on.
        result: What came of it; None after an error.
        error: The error in words; None where there was none.
        is_defect: Whether it is medseg's fault, not the item's.
        trace: Where in the code it happened, for who mends it.
        logged: What a worker process logged meanwhile: it has no handlers, so the main process handles it.
    """

    item: Item
    result: Result | None = None
    error: str | None = None
    is_defect: bool = False
    trace: str = field(default="", compare=False)
    logged: tuple[logging.LogRecord, ...] = field(default=(), compare=False)

    def problem(self, case_id: str, path: Path) -> Problem:
        """Returns the error as a problem of a case, or of a file of it."""
        return Problem(case_id, path, self.error or "failed", self.is_defect)


def relogged(outcome: Outcome[Item, Result]) -> Outcome[Item, Result]:
    """Returns the outcome once what a worker logged is passed on, since workers have no log of their own."""
    for record in outcome.logged:
        its_logger = logging.getLogger(record.name)
        if its_logger.isEnabledFor(record.levelno):
            its_logger.handle(record)
    if outcome.trace:
        logger.debug(outcome.trace)
    return replace(outcome, logged=()) if outcome.logged else outcome


class _Collected(QueueHandler):
    """Keeps records in a list, in a form that can be sent to another process.

    Args:
        thread: Only its records are kept; None: those of all threads.
    """

    def __init__(self, thread: int | None) -> None:
        super().__init__(SimpleQueue())
        self.records: list[logging.LogRecord] = []
        if thread is not None:
            self.addFilter(lambda record: record.thread == thread)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Keeps a record."""
        self.records.append(record)


def attempt_in_worker(
    function: Callable[[Item], Result], item: Item, thread: int | None = None
) -> Outcome[Item, Result]:
    """Returns the outcome of ``function`` for an item, with what it logged.

    Args:
        function: What is done.
        item: What it is done with.
        thread: Only what this one logs is the item's, where others work on other items; None: what all log.
    """
    collected, package = _Collected(thread), logging.getLogger("medseg")
    package.addHandler(collected)
    package.setLevel(logging.INFO)
    try:
        return replace(attempt(function, item), logged=tuple(collected.records))
    finally:
        package.removeHandler(collected)


def attempt(function: Callable[[Item], Result], item: Item) -> Outcome[Item, Result]:
    """Returns the outcome of ``function`` for an item, with the error where it raised one.

    What the item is to blame for is a ``MedsegError``, and what the machine lacks shows; anything else is a defect of
    ours, which must not stop the other items.
    """
    try:
        return Outcome(item, result=function(item))
    except UnfitWorkerError:  # no fault of the item
        raise
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        cause = cause_of(error)
        if isinstance(cause, MedsegError):
            return Outcome(item, error=str(cause), trace=trace)
        reason = of_the_machine(cause)
        return Outcome(item, error=reason or defect(cause), is_defect=not reason, trace=trace)
