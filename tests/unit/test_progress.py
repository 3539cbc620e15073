"""The library logs and is silent; the command line shows what it logs."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import medseg
from medseg import progress
from medseg.parallel import run_in_workers
from medseg.progress import listed, say, show_progress, track, warn


@pytest.fixture
def silent() -> Iterator[None]:
    show_progress(False)
    yield
    show_progress()


def speak(number: int) -> int:
    warn(f"number [{number}]")
    return number


@pytest.mark.usefixtures("silent")
def test_python_sees_nothing_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    say("a")
    warn("b")
    assert list(track([1, 2], "Counting", 2)) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_no_handler_means_silence_in_a_process_of_its_own(tmp_path: Path) -> None:
    script = "from medseg.progress import warn; warn('b'); import medseg, logging; print(logging.getLogger().handlers)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.usefixtures("silent")
def test_records_name_the_module_and_the_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    say("50 % done")
    record = caplog.records[-1]
    assert (record.name, record.levelname, record.getMessage()) == ("medseg", "INFO", "50 % done")
    assert record.pathname == __file__


def test_the_command_line_shows_all(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("medseg.io").info("[done]")
    logging.getLogger("medseg.io").warning("100 % odd")
    logging.getLogger("medseg.io").debug("not shown")
    assert capsys.readouterr().err == "[done]\n100 % odd\n"


def test_of_several_processes_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "RANK", 1)
    logging.getLogger("medseg.training").info("done")
    logging.getLogger("medseg.training").warning("odd")
    assert capsys.readouterr().err == "rank 1: odd\n"


def test_what_workers_log_arrives_in_the_order_of_items(capsys: pytest.CaptureFixture[str]) -> None:
    results = [outcome.result for outcome in run_in_workers(speak, [1, 2, 3], workers=2)]
    assert results == [1, 2, 3]
    assert capsys.readouterr().err == "number [1]\nnumber [2]\nnumber [3]\n"


def test_the_switch_is_public(capsys: pytest.CaptureFixture[str]) -> None:
    medseg.show_progress(False)
    logging.getLogger("medseg.io").warning("odd")
    medseg.show_progress()
    assert capsys.readouterr().err == ""


def test_the_first_items_stand_for_many() -> None:
    assert listed([]) == "" and listed(["a", "b"], 2) == "a, b"
    assert listed(range(3), 1) == "0 and 2 more"
