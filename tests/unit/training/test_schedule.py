from itertools import pairwise

import pytest

from medseg.training.clock import Clock
from medseg.training.schedule import Join, Schedule, learning_rate


def test_the_rate_rises_and_falls() -> None:
    rates = [learning_rate(p / 100, 1.0, 0.1, "cosine") for p in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_poly_is_nnunets() -> None:
    assert learning_rate(0.25, 0.01, 0.0, "poly") == pytest.approx(0.01 * 0.75**0.9)


def test_steps_or_the_clock_measure_progress() -> None:
    clock = Clock(total_steps=200)
    assert clock.progress(50) == 0.25
    clock = Clock(total_steps=200, seconds_before=30.0, budget=100.0)
    assert clock.progress(0) == pytest.approx(0.3, abs=0.01)
    assert clock.time_left(0, 0) == pytest.approx(70, abs=1)


def test_what_goes_before_the_first_step_is_no_part_of_the_schedule() -> None:
    clock = Clock(total_steps=200, seconds_before=60.0, budget=100.0, began=20.0)
    assert clock.progress(0) == pytest.approx(0.5, abs=0.01)
    assert Clock(total_steps=200, seconds_before=60.0, budget=50.0, began=60.0).progress(0) == 1


@pytest.mark.parametrize("done", [0.3, 1.0])
def test_a_longer_schedule_is_joined_without_a_jump(done: float) -> None:
    """A run is made three times as long where a part of it, or all, is done."""
    old = Schedule(peak=1.0, warm_up=0.02, shape="cosine")
    here = done / 3
    new = Schedule(peak=1.0, warm_up=0.02, shape="cosine", join=Join(here, old.rate(done)))
    assert new.rate(here) == pytest.approx(old.rate(done))
    rates = [new.rate(here + i / 1000 * (1 - here)) for i in range(1001)]
    assert max(abs(after - before) for before, after in pairwise(rates)) < 0.01
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[100:] == pytest.approx([old.rate(here + i / 1000 * (1 - here)) for i in range(100, 1001)])
    assert rates[-1] == pytest.approx(0)


def test_the_watchdog_lowers_the_whole_schedule() -> None:
    assert Schedule(0.3, 0.0, "cosine", factor=1 / 3).rate(0.5) == pytest.approx(0.05)
