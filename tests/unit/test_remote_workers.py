"""Workers of any executor: order, deaths, what they have to see. Executors that fail are played by threads here."""

import logging
import os
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medseg import remote_workers
from medseg.errors import SourceError
from medseg.outcome import UnfitWorkerError
from medseg.parallel import run_in_workers
from medseg.remote_workers import MOST_DEATHS, RemoteWorkers, WorkerTask


class KilledWorker(Exception):  # as Dask calls it
    """Dask's, which counts by itself where its scheduler says so."""

    allowed_failures = 0


class Deadly(Executor):
    """Runs each task at once; a worker dies with an item so often."""

    def __init__(self, deaths: dict[int, int], error: Callable[[], Exception] = KilledWorker) -> None:
        self.deaths, self.error, self.tried = Counter(deaths), error, list[int]()

    def submit(self, task: Callable[..., Any], /, *items: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.tried.append(items[0])
        if self.deaths[items[0]] > 0:
            self.deaths[items[0]] -= 1
            future.set_exception(self.error())
        else:
            future.set_result(task(*items))
        return future


def test_outcomes_come_in_the_order_of_items(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(3) as executor:
        found = run_in_workers(abs, [-3, 2, -1], workers=RemoteWorkers(executor), description="Counting")
        assert [outcome.result for outcome in found] == [3, 2, 1]
    assert "Counting 3/3" in capsys.readouterr().err


def test_what_a_worker_dies_with_is_tried_again_and_left_out_after_the_third() -> None:
    executor = Deadly({1: 2, 3: 99})
    found = list(run_in_workers(abs, range(5), workers=RemoteWorkers(executor)))
    assert [outcome.result for outcome in found] == [0, 1, 2, None, 4]
    assert "3 workers died with it" in str(found[3].error)
    assert Counter(executor.tried) == {0: 1, 1: 3, 2: 1, 3: MOST_DEATHS, 4: 1}


def test_deaths_that_dask_counted_by_itself_are_not_tried_for_ever() -> None:
    error = KilledWorker()
    error.allowed_failures = 3
    executor = Deadly({0: 99}, lambda: error)
    ((_, outcome),) = RemoteWorkers(executor).outcomes(abs, [0])
    assert executor.tried == [0] and "4 workers died" in str(outcome.error)


def test_suspects_are_tried_one_at_a_time() -> None:
    """Beside each other, two would be blamed for one death."""
    at_once, most = set[int](), list[int]()

    class Watched(Executor):
        def __init__(self) -> None:
            self.first = set[int]()
            self.pending = list[tuple[Future[Any], int]]()

        def submit(self, task: Callable[..., Any], /, *items: Any, **_: Any) -> Future[Any]:
            future: Future[Any] = Future()
            if items[0] not in self.first:
                self.first.add(items[0])
                future.set_exception(KilledWorker())
            else:
                at_once.add(items[0])
                most.append(len(at_once))
                at_once.discard(items[0])
                future.set_result(task(*items))
            return future

    assert {outcome.result for _, outcome in RemoteWorkers(Watched()).outcomes(abs, range(6))} == set(range(6))
    assert max(most) == 1


def test_a_task_that_cannot_be_sent_is_a_problem_in_words() -> None:
    executor = Deadly({2: 99}, lambda: TypeError("cannot pickle '_thread.lock' object"))
    outcomes = dict(RemoteWorkers(executor).outcomes(abs, range(3)))
    assert "could not take it (cannot pickle" in str(outcomes[2].error)


def test_a_broken_pool_ends_in_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        outcomes = dict(RemoteWorkers(pool).outcomes(os._exit, [1, 1]))
    assert all(outcome.error and not outcome.is_defect for outcome in outcomes.values())
    assert "takes no more work" in str(outcomes[0].error)


def test_a_scheduler_that_is_gone_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's client then closes itself, and its futures stay as they are."""
    monkeypatch.setattr(remote_workers, "SECONDS_BETWEEN_LOOKS", 0.01)

    class Alone(Deadly):
        _client = SimpleNamespace(status="closed")

        def submit(self, task: Callable[..., Any], /, *items: Any, **_: Any) -> Future[Any]:
            return super().submit(task, *items) if items[0] == 0 else Future()

    outcomes = dict(RemoteWorkers(Alone({})).outcomes(abs, range(3)))
    assert outcomes[0].result == 0
    assert "was not done: the scheduler is gone" in str(outcomes[1].error) and outcomes[2].error


def test_few_tasks_are_with_the_executor_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_workers, "MOST_OUTSTANDING", 2)
    executor = Deadly({})
    outcomes = RemoteWorkers(executor).outcomes(abs, range(10))
    next(outcomes)
    assert len(executor.tried) == 2
    assert len(list(outcomes)) == 9


def elsewhere(monkeypatch: pytest.MonkeyPatch, task: WorkerTask[Any, Any]) -> None:
    """What follows runs in a process other than that which made the task."""
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")


def test_a_worker_that_does_not_see_the_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = WorkerTask(abs, (str(tmp_path / "scans"),))
    elsewhere(monkeypatch, task)
    with pytest.raises(UnfitWorkerError, match=r"scans: the worker on node7 does not see it .* all machines share"):
        task(1)
    (tmp_path / "scans").mkdir()
    assert task(-1).result == 1


def test_a_worker_writes_into_the_very_same_folder(tmp_path: Path) -> None:
    seen = list[tuple[str, ...]]()

    class Looking(Deadly):
        def submit(self, task: Callable[..., Any], /, *items: Any, **_: Any) -> Future[Any]:
            assert isinstance(task, WorkerTask)
            seen.append(task.sees)
            assert all(Path(path).exists() for path in task.sees)
            return super().submit(task, *items)

    assert len(list(RemoteWorkers(Looking({}), folder=tmp_path).outcomes(abs, [1, 2]))) == 2
    assert seen[0][0].startswith(f"{tmp_path}/.shared-") and not list(tmp_path.iterdir())


def test_no_case_is_lost_to_a_worker_that_cannot_work() -> None:
    executor = Deadly({1: 1}, lambda: UnfitWorkerError("/scans: the worker on node7 does not see it"))
    with pytest.raises(SourceError, match="node7 does not see it"):
        list(RemoteWorkers(executor).outcomes(abs, range(3)))


def test_another_version_of_medseg_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = WorkerTask(abs, version="0.0.1")
    elsewhere(monkeypatch, task)
    with pytest.raises(UnfitWorkerError, match=r"node7 has medseg .*, this is 0.0.1; install the same version"):
        task(1)


def speak(_: int) -> None:
    logging.getLogger("medseg.test").warning("said on a worker")


def test_what_a_worker_logs_is_told_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    task = WorkerTask(speak)
    elsewhere(monkeypatch, task)
    outcome = task(0)
    assert [record.getMessage() for record in outcome.logged] == ["said on a worker"]


def test_relative_paths_begin_where_the_command_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    (tmp_path / "a" / "scan.nii").touch()
    task = WorkerTask(partial(os.path.isfile), ("scan.nii",))
    monkeypatch.chdir(tmp_path)
    elsewhere(monkeypatch, task)
    assert task("scan.nii").result is True
