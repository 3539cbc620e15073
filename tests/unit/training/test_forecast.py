"""What a training and its validation take of the time."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg.config import load
from medseg.training import forecast
from medseg.training.forecast import LEAST_TRAINING_SHARE, RESERVE, Forecast, TimeShares


def test_all_held_back_cases_are_validated_where_there_is_time() -> None:
    shares = TimeShares.of(600, {"a": 20.0, "b": 40.0})
    assert shares.cases == ("a", "b")
    assert shares.training == pytest.approx(600 - RESERVE * 60)
    assert shares.validation == 60
    assert TimeShares.of(None, {"a": 20.0, "b": 40.0}) == TimeShares(float("inf"), 60, ("a", "b"))


def test_validation_takes_no_more_than_its_share() -> None:
    seconds = {f"case_{i:02}": 20.0 for i in range(40)}
    shares = TimeShares.of(900, seconds)
    taken = RESERVE * 20 * len(shares.cases)
    assert taken <= (1 - LEAST_TRAINING_SHARE) * 900 < taken + RESERVE * 20
    assert shares.training + taken == pytest.approx(900)
    # From all over the list: names often stand for sites or dates.
    assert shares.cases[0] == "case_00"
    assert shares.cases[-1] >= "case_36"


def test_large_cases_count_for_what_they_take() -> None:
    assert len(TimeShares.of(100, {"small": 1.0, "large": 90.0}).cases) == 1


def test_one_case_is_validated_whatever_it_takes() -> None:
    shares = TimeShares.of(10, {"a": 100.0, "b": 100.0})
    assert shares.cases == ("a",)
    assert shares.training == pytest.approx(10 * LEAST_TRAINING_SHARE)


def folds(*cases: int, max_time: str = "100s") -> list[Any]:
    """A run a fold with so many held-back cases, as far as a forecast looks at them."""
    dataset = SimpleNamespace(label_map=lambda case_id: np.zeros((2**10, 2**10), np.uint8))
    config = load(overrides=[f"training.max_time={max_time}"])
    splits = [SimpleNamespace(validation=[f"case_{i}" for i in range(n)]) for n in cases]
    return [SimpleNamespace(config=config, dataset=dataset, split=split) for split in splits]


@pytest.mark.parametrize(("window_seconds", "trained", "validated"), [(1.0, 185.0, 12.0), (1000.0, 100.0, 4000.0)])
def test_each_fold_trains_for_what_its_own_validation_leaves(
    monkeypatch: pytest.MonkeyPatch, window_seconds: float, trained: float, validated: float
) -> None:
    monkeypatch.setattr(forecast, "windows_by_case", lambda run, trainer: dict.fromkeys(run.split.validation, 1))
    trainer: Any = SimpleNamespace(
        clock=SimpleNamespace(total_steps=10), device=SimpleNamespace(peak_memory_mb=lambda: 5.0)
    )
    found = Forecast.of(folds(2, 4), trainer, step_seconds=0.5, window_seconds=window_seconds, run_bytes=2**20)
    assert found.steps is None and found.training_seconds == pytest.approx(trained)
    assert found.validation_seconds == pytest.approx(validated)
    assert found.disk_mb == 2 + 6


def test_a_forecast_leaves_out_the_cases_that_training_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five cases of 16 s, of which two fit in the 40 s that validation may take of 100 s."""
    monkeypatch.setattr(forecast, "windows_by_case", lambda run, trainer: dict.fromkeys(run.split.validation, 8))
    trainer: Any = SimpleNamespace(
        clock=SimpleNamespace(total_steps=10), device=SimpleNamespace(peak_memory_mb=lambda: 5.0)
    )
    found = Forecast.of(folds(5), trainer, step_seconds=0.5, window_seconds=1.0, run_bytes=0)
    assert found.validation_seconds == pytest.approx(32)
    assert found.training_seconds == pytest.approx(100 - RESERVE * 32)
