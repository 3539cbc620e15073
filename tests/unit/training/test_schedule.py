import pytest

from medseg.training.clock import Clock
from medseg.training.schedule import learning_rate


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
