"""Ctrl-C and SIGTERM end a run after the step that is under way."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from medseg.process_group import ProcessGroup
from medseg.progress import say


@contextmanager
def interruptible(processes: ProcessGroup) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether there was a Ctrl-C or SIGTERM, to be asked after each step.

    A second one ends at once. The processes of a group ask together, and stop together. The second one is nothing to
    them: SLURM and torchrun both send one, and torchrun ends those that take too long.
    """
    event = threading.Event()

    def interrupted() -> bool:
        return processes.any(event.is_set())

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if event.is_set() and processes.size == 1:
            raise KeyboardInterrupt
        event.set()
        if processes.size == 1:
            say("Stopping after this step and writing a checkpoint; once more ends at once")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
