"""What was worked on when the process ended, and whether that was the fault of what was worked on.

A crash leaves a trace by ``faulthandler``, and the kernel counts what it ends for want of memory. A kill from outside,
a power cut, or a library that calls ``exit`` leave nothing: these count too, but far less.
"""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from medseg.pacs.database import QueueDatabase

MOST_CRASHES = 3  # of the process, while something was worked on, before that is left
MOST_KILLS = 20  # the same of ends that nothing explains: a restart is no fault of what was worked on
TRACE, LAST_TRACE = "crash.log", "crash.last.log"
KERNEL_COUNTERS = Path("/proc/vmstat")  # of Linux; oom_kill: what the kernel has ended for want of memory
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Death(NamedTuple):
    """An end of the process that nobody asked for.

    Attributes:
        work: What was worked on: a study or a job.
        is_crash: Whether the process ended by itself, or by the kernel for want of memory.
    """

    work: str
    is_crash: bool


class Deaths:
    """Counts how often the process ended while something was worked on.

    Args:
        folder: Of the queue.
        tables: Its database.
    """

    def __init__(self, folder: Path, tables: QueueDatabase) -> None:
        self.folder = folder
        self._tables = tables

    @contextmanager
    def watching(self, work: str) -> Iterator[None]:
        """Notes what is worked on within the block: where the process ends there, it counts.

        Args:
            work: Its name.
        """
        with self._tables.changing() as database:
            database.execute("INSERT OR REPLACE INTO under_way VALUES(?,?,?)", (work, _boot(), _killed_by_kernel()))
        try:
            yield
        finally:
            with self._tables.changing() as database:
                database.execute("DELETE FROM under_way WHERE work=?", (work,))

    def excuse(self) -> None:
        """Notes that the process was asked to end: that it ends is no fault of what is worked on."""
        with self._tables.changing() as database:
            database.execute("DELETE FROM under_way")

    def judge(self) -> list[Death]:
        """Counts the end of the last process, if something was under way, and returns what it counted."""
        trace = self.folder / TRACE
        has_crashed = trace.is_file() and trace.stat().st_size > 0
        if has_crashed:
            trace.replace(self.folder / LAST_TRACE)
        with self._tables.changing() as database:
            found = [
                Death(work, has_crashed or (boot == _boot() and kernel < _killed_by_kernel()))
                for work, boot, kernel in database.execute("SELECT work, boot, kernel FROM under_way").fetchall()
            ]
            database.executemany(
                "INSERT INTO death VALUES(?,?,?) ON CONFLICT(work) DO UPDATE SET "
                "crashes=crashes+excluded.crashes, kills=kills+excluded.kills",
                [(each.work, int(each.is_crash), int(not each.is_crash)) for each in found],
            )
            database.execute("DELETE FROM under_way")
        return found

    def verdict(self, work: str) -> str:
        """Returns why something is worked on no more; "" where it is.

        Args:
            work: Its name.
        """
        for crashes, kills in self._tables.rows("SELECT crashes, kills FROM death WHERE work=?", (work,)):
            if crashes >= MOST_CRASHES:
                return f"medseg crashed {crashes} times over it; send the study again to try again"
            if kills >= MOST_KILLS:
                return f"medseg ended {kills} times while it was worked on; send the study again to try again"
        return ""

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Lets a crash of the process within the block leave its trace in the folder: which function it was in."""
        before, trace = faulthandler.is_enabled(), self.folder / TRACE
        with trace.open("w", encoding="utf-8") as file:
            faulthandler.enable(file)
            try:
                yield
            finally:
                faulthandler.disable()
                if before:
                    faulthandler.enable()
        trace.unlink(missing_ok=True)


def _boot() -> str:
    """Returns what is another one after each start of the machine; "" where it does not say it."""
    with suppress(OSError):
        return BOOT.read_text().strip()
    return ""


def _killed_by_kernel() -> int:
    """Returns how many processes the kernel has ended for want of memory since the machine was started."""
    with suppress(OSError, ValueError):
        for line in KERNEL_COUNTERS.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
