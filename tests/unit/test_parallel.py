import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from medseg.errors import SourceError
from medseg.parallel import run_in_workers

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
        f"outcomes = run_in_workers(square, range(8), workers=2, preload=['{HERE}'])\n"
        "for o in sorted(outcomes, key=lambda o: o.item): print(o.item, o.result, o.error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, script, Path(__file__).parent],
        capture_output=True, text=True, timeout=120, env=environment, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [str(n) for n in range(8)], done.stderr
    assert lines[2] == "2 4 None"
    assert lines[3] == "3 None three: is bad"
    assert lines[4].startswith("4 None ZeroDivisionError: a defect (")
    assert lines[5] == "5 None the worker process died (out of memory?)"
    assert lines[7] == "7 49 None"


def one_second(n: int) -> int:
    time.sleep(1)
    return n


def test_work_that_waits_is_dropped_when_the_user_interrupts() -> None:
    start = time.monotonic()
    outcomes = run_in_workers(one_second, range(40), workers=2)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]  # as an exception in the loop over them does
    assert time.monotonic() - start < 12  # all 40 take 20 s


def test_one_worker_works_in_this_process() -> None:
    outcomes = list(run_in_workers(partial(pow, 2), [1, 2, 3], workers=1, preload=[]))
    assert [outcome.result for outcome in outcomes] == [2, 4, 8]
