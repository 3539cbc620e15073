"""Workers of any executor of ``concurrent.futures``: Dask's on other machines, a pool of processes, mpi4py's, Parsl's.

An executor runs tasks and says what became of each. What medseg adds is what to make of a worker that died: its item is
tried again, and one with which three workers died is left out, since it would kill all of them in turn.
"""

import os
import secrets
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Generic

from medseg.errors import SourceError, reason_of
from medseg.files import ensure_folder
from medseg.outcome import Item, Outcome, Result, UnfitWorkerError, attempt, attempt_in_worker, relogged
from medseg.version import VERSION

MOST_DEATHS = 3  # of workers with one item, which is then left out
# Of a training, which goes on from its checkpoint: with each job that comes to the end of its time a worker dies.
MOST_DEATHS_OF_A_TRAINING = 100
DEATHS = ("KilledWorker", "WorkerLost", "FailedJobError")  # what Dask, Parsl and submitit raise
SECONDS_BETWEEN_LOOKS = 5.0  # at a scheduler that says nothing
TOKEN = ".shared-"
MOST_OUTSTANDING = 4096  # tasks that an executor has at a time: what a scheduler keeps of them is memory


@dataclass(frozen=True)
class RemoteWorkers:
    """The workers of an executor.

    Attributes:
        executor: Any of ``concurrent.futures``, such as ``dask.distributed.Client.get_executor()`` gives.
        sees: Files and folders that every worker has to see, by the same paths. A worker that does not would fail with
            each item in a moment, and take them all.
        folder: Where workers write. They have to see the very same one: it gets a file of a random name meanwhile.
        most_deaths: Of workers with one item, which is then left out.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as executor:
        ...     outcomes = dict(RemoteWorkers(executor).outcomes(abs, [-1, 2, -3]))
        >>> [outcomes[number].result for number in range(3)]
        [1, 2, 3]
    """

    executor: Executor
    sees: tuple[Path, ...] = ()
    folder: Path | None = None
    most_deaths: int = MOST_DEATHS

    def outcomes(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Outcome[Item, Result]]]:
        """Yields the number of each item and its outcome, as they are done.

        Args:
            function: Runs in a worker; it can be pickled, as the items can.
            items: What it is called with; the first ones are begun first.

        Raises:
            SourceError: A worker does not see what it has to see, or has another medseg.
            OutputError: The folder cannot be written to.
        """
        with self._token() as token:
            task = WorkerTask(function, tuple(map(os.fspath, (*self.sees, *token))))
            yield from _Submission(self.executor, task, items, self.most_deaths).outcomes()

    @contextmanager
    def _token(self) -> Iterator[list[Path]]:
        """Yields a file in the folder, which is removed in the end; none without a folder."""
        if self.folder is None:
            yield []
            return
        token = ensure_folder(self.folder) / f"{TOKEN}{secrets.token_hex(8)}"
        try:
            token.touch()
            yield [token]
        finally:
            with suppress(OSError):
                token.unlink(missing_ok=True)


@dataclass(frozen=True)
class WorkerTask(Generic[Item, Result]):
    """What a worker is sent: a function, and what has to be so where it runs.

    Attributes:
        function: What is done with an item.
        sees: Paths that have to be there, from the folder in which the command was given.
        folder: That folder: relative paths begin there.
        version: Of medseg.
        process: Host and process of who sent it: the worker may be a thread of it.
    """

    function: Callable[[Item], Result]
    sees: tuple[str, ...] = ()
    folder: str = field(default_factory=os.getcwd)
    version: str = VERSION
    process: tuple[str, int] = field(default_factory=lambda: (socket.gethostname(), os.getpid()))

    def __call__(self, item: Item) -> Outcome[Item, Result]:
        """Returns the outcome for an item.

        Raises:
            UnfitWorkerError: This worker cannot work on any item.
        """
        if self.process == (socket.gethostname(), os.getpid()):
            return attempt(self.function, item)
        self._check()
        return attempt_in_worker(self.function, item, threading.get_ident())

    def _check(self) -> None:
        host = socket.gethostname()
        if self.version != VERSION:
            raise UnfitWorkerError(
                f"the worker on {host} has medseg {VERSION}, this is {self.version}; install the same version there"
            )
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        unseen = next((path for path in self.sees if not Path(path).exists()), None)
        if unseen is not None:
            raise UnfitWorkerError(
                f"{Path(unseen).parent if Path(unseen).name.startswith(TOKEN) else unseen}: the worker on {host} does "
                "not see it by this path; put it into a folder that all machines share, and unpack archives there"
            )


class _Submission(Generic[Item, Result]):
    """The items of a call on their way through an executor."""

    def __init__(
        self, executor: Executor, task: WorkerTask[Item, Result], items: Sequence[Item], most_deaths: int
    ) -> None:
        self.executor, self.task, self.items, self.most_deaths = executor, task, items, most_deaths
        self.waiting = deque(range(len(items)))
        # With them a worker died. One at a time is tried again: beside each other, two would be blamed for one death.
        self.suspects = deque[int]()
        self.suspect: int | None = None  # the one that is tried
        self.deaths = Counter[int]()
        self.running: dict[Future[Outcome[Item, Result]], int] = {}
        self.done = SimpleQueue[Future[Outcome[Item, Result]]]()
        self.refusal = ""  # why the executor takes no more

    def outcomes(self) -> Iterator[tuple[int, Outcome[Item, Result]]]:
        try:
            while True:
                self._fill()
                if not self.running:
                    break
                try:
                    future = self.done.get(timeout=SECONDS_BETWEEN_LOOKS)
                except Empty:
                    if self._is_alone():
                        self.refusal = "the scheduler is gone; start it, and call this again"
                        break
                    continue
                number = self.running.pop(future)
                outcome = self._outcome(number, future)
                if outcome is not None:
                    yield number, relogged(outcome)
            for number in (*self.running.values(), *self.waiting, *self.suspects):
                yield number, Outcome(self.items[number], error=f"was not done: {self.refusal}")
        finally:
            for future in [] if self._is_alone() else self.running:
                future.cancel()

    def _is_alone(self) -> bool:
        """Returns whether the scheduler of a Dask executor is gone: its futures then stay as they are for ever."""
        return getattr(getattr(self.executor, "_client", None), "status", "") == "closed"

    def _fill(self) -> None:
        while self.waiting and len(self.running) < MOST_OUTSTANDING and self._submit(self.waiting[0]):
            self.waiting.popleft()
        if self.suspect is None and self.suspects and self._submit(self.suspects[0]):
            self.suspect = self.suspects.popleft()

    def _submit(self, number: int) -> bool:
        try:
            future = self.executor.submit(self.task, self.items[number])
        except RuntimeError as error:  # a pool that is broken, or was shut down
            self.refusal = f"the executor takes no more work ({reason_of(error)})"
            return False
        self.running[future] = number
        future.add_done_callback(self.done.put)
        return True

    def _outcome(self, number: int, future: Future[Outcome[Item, Result]]) -> Outcome[Item, Result] | None:
        """Returns the outcome of a task that is over; None where its item is to be tried again."""
        if number == self.suspect:
            self.suspect = None
        try:
            outcome = future.result()
        except UnfitWorkerError as error:
            raise SourceError(str(error)) from error
        except (ImportError, AttributeError) as error:
            raise SourceError(
                f"a worker cannot run this ({reason_of(error)}); install the same medseg {VERSION} there"
            ) from error
        except (Exception, CancelledError) as error:
            # Dask tries a task again by itself, and then says how often.
            self.deaths[number] += 1 + int(getattr(error, "allowed_failures", 0))
            if self.deaths[number] < self.most_deaths:
                self.suspects.append(number)
                return None
            why = f"{self.deaths[number]} workers died with it, one after the other (out of memory?)"
            if not isinstance(error, BrokenExecutor) and type(error).__name__ not in DEATHS:
                why = f"{self.deaths[number]} workers could not take it ({reason_of(error)})"
            outcome = Outcome(self.items[number], error=why)
        # What comes back is the item as it was sent, so that it is the same object.
        return Outcome(
            self.items[number], outcome.result, outcome.error, outcome.is_defect, outcome.trace, outcome.logged
        )
