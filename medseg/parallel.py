"""Work on many cases, in worker processes, on workers elsewhere, or in stages: errors come back with their case, and a
dead worker costs one case."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from multiprocessing.connection import wait
from types import ModuleType
from typing import Any

from medseg.outcome import Item, Outcome, Result, attempt, attempt_in_worker, relogged
from medseg.progress import track
from medseg.remote_workers import RemoteWorkers

# So many processes of this machine, None for one a processor; or the workers of an executor.
Workers = int | RemoteWorkers | None

# How worker processes begin, where the environment says so: "spawn" as on Windows and macOS, "forkserver" as on Linux.
START_METHOD = "MEDSEG_START_METHOD"

# What the cases of all commands need. A Python process has one server that workers are forked from, and what this has
# imported when it begins is all that it ever shares: were it the modules of one command, every pool of the next one
# would import its own, for seconds each. PyTorch and MONAI are not among them: checking and measuring do without.
PRELOADED = ("medseg.workflows.inspect", "medseg.preparation.checked_case", "medseg.evaluation.measure")


def run_in_workers(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: Workers = None,
    description: str = "",
) -> Iterator[Outcome[Item, Result]]:
    """Yields the outcome of ``function`` for each item, in their order, whichever is done first.

    What is made of the outcomes must not depend on the workers. With one worker, or one item, the work is done in this
    process.

    Args:
        function: Runs in a worker.
        items: What it is called with.
        workers: So many processes; None: one a processor; or those of an executor, which may be on other machines.
        description: Of the progress, which is shown where there is one.
    """
    if isinstance(workers, RemoteWorkers):
        yield from _in_order(_tracked(workers.outcomes(function, items), description, len(items)))
        return
    outcomes = map(relogged, _outcomes(function, items, min(workers or processor_count(), len(items))))
    yield from _tracked(outcomes, description, len(items))


def _tracked(outcomes: Iterator[Any], description: str, total: int) -> Iterator[Any]:
    return track(outcomes, description, total) if description else outcomes


def _in_order(outcomes: Iterator[tuple[int, Outcome[Item, Result]]]) -> Iterator[Outcome[Item, Result]]:
    """Yields outcomes, which come with their numbers as they are done, by these numbers."""
    early: dict[int, Outcome[Item, Result]] = {}
    due = 0
    for number, outcome in outcomes:
        early[number] = outcome
        while due in early:
            yield early.pop(due)
            due += 1


def _outcomes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Outcome[Item, Result]]:
    if workers <= 1:
        for item in items:
            yield attempt(function, item)
        return
    rest: list[Outcome[Item, Result]] = []  # from the first one on that a dead worker took along
    for outcome in _in_pool(function, items, workers):
        if rest or _is_lost(outcome):
            rest.append(outcome)
        else:
            yield outcome
    # A worker that dies (killed for its memory, a crash in a decoder) takes its pool along. What was under way is
    # tried once more, each item in a pool of its own: only the one that kills its worker again is given up.
    for outcome in rest:
        for again in _in_pool(function, [outcome.item], 1) if _is_lost(outcome) else [outcome]:
            yield Outcome(again.item, error="the worker process died (out of memory?)") if _is_lost(again) else again


def _is_lost(outcome: Outcome[Item, Result]) -> bool:
    return outcome.error is None and outcome.result is None


def run_in_stages(
    first: Callable[[Item], Any],
    second: Callable[[Any], Any],
    third: Callable[[Any], Result],
    items: Sequence[Item],
    *,
    overlapping: bool = True,
) -> Iterator[Outcome[Item, Result]]:
    """Yields ``third(second(first(item)))`` of each item, in their order.

    ``second`` works in this thread, the other two in threads of their own: while it has an item, ``first`` has the next
    one and ``third`` the one before, so that there are never more than three. When this thread is interrupted, it waits
    for what the other two are at, and begins nothing new.
    """
    if not overlapping:
        for item in items:
            yield relogged(attempt(lambda each: third(second(first(each))), item))
        return
    with closing(_ahead(first, items)) as prepared:
        worked = map(partial(_then, second), prepared)
        with closing(_behind(third, worked)) as done:
            yield from map(relogged, done)


def _ahead(function: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Outcome[Item, Result], None, None]:
    """Works on the next item in a thread while the last outcome is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = [thread.submit(attempt, function, item) for item in items[:1]]
        for item in items[1:]:
            ready = [coming.pop().result()]
            coming.append(thread.submit(attempt, function, item))
            yield ready.pop()  # and hold it no longer
        while coming:
            yield coming.pop().result()


def _behind(
    function: Callable[[Any], Result], outcomes: Iterator[Outcome[Item, Any]]
) -> Generator[Outcome[Item, Result], None, None]:
    """Goes on with an outcome in a thread while the next one comes about."""
    with ThreadPoolExecutor(1) as thread:
        going: list[Future[Outcome[Item, Result]]] = []
        for outcome in outcomes:
            done = [future.result() for future in going]
            going = [thread.submit(_then, function, outcome)]
            del outcome  # it is the thread's
            yield from done
        yield from (future.result() for future in going)


def _then(function: Callable[[Any], Result], outcome: Outcome[Item, Any]) -> Outcome[Item, Result]:
    """Goes on with a result; an error stays one."""
    if outcome.error is not None:
        return replace(outcome, result=None)
    done = attempt(function, outcome.result)
    return Outcome(outcome.item, done.result, done.error, done.is_defect, done.trace)


def processor_count() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_pool(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Outcome[Item, Result]]:
    """Yields outcomes; those with neither result nor error are of items that a dead worker took along."""
    with ProcessPoolExecutor(workers, mp_context=_context(), initializer=_begin_worker) as pool:
        futures: list[Future[Outcome[Item, Result]]] = []
        with _main_stays_here(), suppress(BrokenProcessPool):
            for item in items:
                futures.append(pool.submit(attempt_in_worker, function, item))
        try:
            for item, future in zip_longest(items, futures):
                try:
                    yield Outcome(item) if future is None else future.result()
                except BrokenProcessPool:
                    yield Outcome(item)
        finally:
            # After Ctrl-C the pool would finish all that waits before it lets go.
            pool.shutdown(cancel_futures=True)


def _context() -> multiprocessing.context.BaseContext:
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(os.environ.get(START_METHOD, method))
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(list(PRELOADED))
    return context


@contextmanager
def _main_stays_here() -> Iterator[None]:
    """Keeps worker processes from running the user's script again: they need medseg's modules only, so that
    ``medseg.preprocess(...)`` works in a script without ``if __name__ == "__main__"``."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin_worker() -> None:
    """Prepares a worker: workers share the cores as processes; threads of each would only get in each other's way."""
    threading.Thread(target=_end_with_main, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _end_with_main() -> None:
    """Ends a worker with the main process.

    Where that is killed, its workers would finish what they are at, in the way of the next call, and then wait for more
    for ever.
    """
    main = multiprocessing.parent_process()
    if main is not None:
        wait([main.sentinel])
        os._exit(1)
