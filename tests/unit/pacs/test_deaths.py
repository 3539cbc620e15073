"""Whose fault it is that the process ended: crashes count soon, kills from outside and power cuts hardly."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from medseg.pacs import deaths
from medseg.pacs.queue import StudyQueue


@pytest.fixture
def die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StudyQueue]:
    """Lets the process end in the middle of work, and returns the queue as the next one opens it."""
    kernel, boot = tmp_path / "vmstat", tmp_path / "boot_id"
    monkeypatch.setattr(deaths, "KERNEL_COUNTERS", kernel)
    monkeypatch.setattr(deaths, "BOOT", boot)
    kernel.write_text("pgfault 99\noom_kill 7\n")
    boot.write_text("one")

    def end(how: str = "", work: str = "job") -> StudyQueue:
        folder, snapshot = tmp_path / "queue", tmp_path / "snapshot"
        queue = StudyQueue(folder)
        with queue.deaths.watching(work):
            if how == "crash":
                (folder / deaths.TRACE).write_text("Fatal Python error: Segmentation fault")
            if how in ("memory", "memory and boot"):
                kernel.write_text("pgfault 99\noom_kill 8\n")
            if how == "memory and boot":
                boot.write_text("two")
            if how == "asked":
                queue.deaths.excuse()
            shutil.copytree(folder, snapshot)  # what a kill at this moment leaves
        queue.close()
        shutil.rmtree(folder)
        snapshot.rename(folder)
        return StudyQueue(folder)

    return end


@pytest.mark.parametrize(
    ("how", "judged"),
    [("crash", [True]), ("memory", [True]), ("memory and boot", [False]), ("", [False]), ("asked", [])],
)
def test_whose_fault_an_end_is(die: Callable[..., StudyQueue], how: str, judged: list[bool]) -> None:
    queue = die(how)
    assert queue.last_deaths == [("job", each) for each in judged]
    queue.close()


def test_crashes_are_named_soon_and_kills_late(die: Callable[..., StudyQueue]) -> None:
    for how, most, said in (("crash", 3, "medseg crashed 3 times"), ("", 20, "medseg ended 20 times")):
        for number in range(1, most + 1):
            queue = die(how, how or "job")
            verdict = queue.deaths.verdict(how or "job")
            queue.close()
            assert (said in verdict) == (number == most)


def test_what_is_done_in_order_counts_for_nothing(tmp_path: Path) -> None:
    queue = StudyQueue(tmp_path / "queue")
    with suppress(ValueError), queue.deaths.watching("job"):
        raise ValueError
    queue.close()
    queue = StudyQueue(tmp_path / "queue")
    assert queue.last_deaths == []
    queue.close()
