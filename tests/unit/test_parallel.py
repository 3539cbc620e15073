import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from medseg.errors import SourceError
from medseg.parallel import Outcome, run_in_stages, run_in_workers

HERE = Path(__file__).stem


def square(n: int) -> int:
    if n == 3:
        raise SourceError("three: is bad")
    if n == 4:
        raise ZeroDivisionError("a defect")
    if n == 5 and multiprocessing.parent_process() is not None:
        os._exit(9)
    return n * n


def test_errors_come_back_with_their_item(tmp_path: Path) -> None:
    # As a script, since workers import the function by its module's name. It has no "if __name__" on purpose.
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        f"from {HERE} import square\n"
        "from medseg.parallel import run_in_workers\n"
        f"outcomes = run_in_workers(square, range(8), workers=2)\n"
        "for o in sorted(outcomes, key=lambda o: o.item): print(o.item, o.result, o.error)\n"
    )
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, script, Path(__file__).parent],
        capture_output=True, text=True, timeout=120, env=environment, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [str(n) for n in range(8)], done.stderr
    assert lines[2] == "2 4 None"
    assert lines[3] == "3 None three: is bad"
    assert lines[4].startswith("4 None a defect of medseg, not of your data (ZeroDivisionError: a defect, ")
    assert lines[5] == "5 None the worker process died (out of memory?)"
    assert lines[7] == "7 49 None"


def tell_pid(n: int) -> None:
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece: two workers write at once
    time.sleep(n)


def test_workers_end_when_the_main_process_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        f"from {HERE} import tell_pid\n"
        "from medseg.parallel import run_in_workers\n"
        "list(run_in_workers(tell_pid, [600, 600, 0], workers=2))\n"
    )
    main = subprocess.Popen([sys.executable, script, Path(__file__).parent], stdout=subprocess.PIPE, text=True)
    assert main.stdout is not None
    workers = [psutil.Process(int(main.stdout.readline())) for _ in range(2)]
    servers = [worker.parent() for worker in workers]
    main.kill()
    main.wait()
    _, alive = psutil.wait_procs([*workers, *filter(None, servers)], timeout=30)
    for process in alive:
        process.kill()
    assert not alive


def late_first(n: int) -> int:
    time.sleep(0.5 if n == 0 else 0)
    return n


def test_outcomes_come_in_the_order_of_their_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    function = __import__(HERE).late_first  # as workers import it
    assert [outcome.result for outcome in run_in_workers(function, range(4), workers=2)] == list(range(4))


def slowly_made(path: Path) -> Path:
    time.sleep(0.5)
    path.touch()
    return path


def test_work_that_waits_is_dropped_when_the_user_interrupts(tmp_path: Path) -> None:
    outcomes = run_in_workers(slowly_made, [tmp_path / str(n) for n in range(40)], workers=2)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]  # as an exception in the loop over them does
    made = len(list(tmp_path.iterdir()))
    time.sleep(1)
    assert 1 <= len(list(tmp_path.iterdir())) == made < 40


def test_one_worker_works_in_this_process() -> None:
    outcomes = list(run_in_workers(partial(pow, 2), [1, 2, 3], workers=1))
    assert [outcome.result for outcome in outcomes] == [2, 4, 8]


def fails_at(bad: int) -> Callable[[int], int]:
    def function(n: int) -> int:
        if n % 10 == bad:
            raise SourceError(f"{bad}: is bad")
        return n + 100

    return function


@pytest.mark.parametrize("overlapping", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_stages_give_outcomes_in_order_and_errors_of_each_with_their_item(n: int, overlapping: bool) -> None:
    outcomes = list(run_in_stages(fails_at(2), fails_at(4), fails_at(7), range(n), overlapping=overlapping))
    expected = [Outcome(i, i + 300) if i not in (2, 4, 7) else Outcome(i, error=f"{i}: is bad") for i in range(n)]
    assert outcomes == expected


def test_the_next_is_read_and_the_last_is_written_while_one_is_worked_on() -> None:
    """Each stage waits for what only goes on when the others are at work at the same time."""
    meeting = threading.Barrier(3, timeout=30)

    def stage(middle: int) -> Callable[[int], int]:
        def function(n: int) -> int:
            if n == middle:
                meeting.wait()
            return n

        return function

    outcomes = list(run_in_stages(stage(3), stage(2), stage(1), range(5)))
    assert [outcome.result for outcome in outcomes] == list(range(5))


def test_no_more_than_one_waits_at_each_end() -> None:
    begun, ended = [0, 0, 0], [0, 0, 0]

    def stage(i: int) -> Callable[[int], int]:
        def function(n: int) -> int:
            begun[i] += 1
            assert begun[0] - ended[2] <= 3
            assert i == 0 or begun[0] - ended[1] <= 2
            time.sleep(0.001)
            ended[i] += 1
            return n

        return function

    assert all(outcome.error is None for outcome in run_in_stages(stage(0), stage(1), stage(2), range(30)))


def test_an_interruption_ends_the_stages_and_what_is_being_written_is_whole() -> None:
    read, written, threads = [], [], threading.active_count()
    writing = threading.Event()

    def interrupted(n: int) -> int:
        if n == 2:
            assert writing.wait(30)
            raise KeyboardInterrupt
        return n

    def write(n: int) -> int:
        if n == 1:
            writing.set()
            time.sleep(0.2)
        written.append(n)
        return n

    with pytest.raises(KeyboardInterrupt):
        list(run_in_stages(lambda n: read.append(n) or n, interrupted, write, range(100)))
    assert (read, written) == ([0, 1, 2, 3], [0, 1])
    assert threading.active_count() == threads
