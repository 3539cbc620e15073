"""Runs checks one after the other in a process of their own, which may fail, hang or die without ending the rest."""

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from gpu_checks.check import Check, CheckResult, NotHere, Setup

# Seconds of the whole time without which no check is begun.
LEAST = 2.0
STARTING = 90.0  # of a process: it imports PyTorch and MONAI


def run_checks(setup: Setup, checks: Sequence[Check], seconds: float) -> Iterator[CheckResult]:
    """Yields the result of each check; those for which the time is not enough are left out.

    Args:
        setup: Where they run.
        checks: Whose functions can be imported.
        seconds: For all of them.
    """
    end = time.monotonic() + seconds
    worker: Worker | None = None
    try:
        for check in checks:
            if end - time.monotonic() < LEAST:
                yield CheckResult(check.name, "left out", limit=check.limit, message="the whole time is over")
                continue
            worker = worker if worker is not None and worker.lives else Worker(setup)
            yield worker.run(check, min(check.seconds, end - time.monotonic()))
    finally:
        if worker is not None:
            worker.end()


class Worker:
    """A process that runs checks."""

    def __init__(self, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.pipe, far = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(far, setup), daemon=False)
        self.process.start()
        far.close()
        self.lives = self._answers(STARTING)

    def run(self, check: Check, seconds: float) -> CheckResult:
        """Runs a check for so long at most; after that, the process is ended."""
        start = time.monotonic()
        try:
            if not self.lives:
                raise EOFError
            self.pipe.send(check)
            if self.pipe.poll(seconds):
                result: CheckResult = self.pipe.recv()
                return result
            state, message = "out of time", f"after {seconds:.0f} s"
        except (EOFError, OSError):
            self.process.join(5)
            state, message = "died", f"its process ended with status {self.process.exitcode}"
        self.end()
        return CheckResult(check.name, state, time.monotonic() - start, check.limit, message=message)

    def end(self) -> None:
        """Ends the process, and what it began."""
        self.lives = False
        if self.process.pid is not None and self.process.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg") and os.getpgid(self.process.pid) == self.process.pid:
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
        self.process.join()
        self.pipe.close()

    def _answers(self, seconds: float) -> bool:
        with contextlib.suppress(EOFError, OSError):
            return bool(self.pipe.poll(seconds) and self.pipe.recv() == "begun")
        return False


def _work(pipe: Connection, setup: Setup) -> None:
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # so that compilers and workers that it starts end with it
    pipe.send("begun")
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(result_of(pipe.recv(), setup))


def result_of(check: Check, setup: Setup) -> CheckResult:
    """Runs a check here; whatever it raises is its result."""
    start = time.monotonic()
    try:
        numbers = check.run(setup)
    except NotHere as reason:
        return CheckResult(check.name, "not here", time.monotonic() - start, check.limit, message=str(reason))
    except Exception as error:
        trace = "".join(traceback.format_exception(error)[-3:])
        message = f"{type(error).__name__}: {error}\n{trace}"
        return CheckResult(check.name, "error", time.monotonic() - start, check.limit, message=message)
    state = "passed" if check.is_kept(numbers) else "failed"
    return CheckResult(check.name, state, time.monotonic() - start, check.limit, numbers)
