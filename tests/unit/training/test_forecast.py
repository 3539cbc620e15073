"""What a training and its validation take of the time."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg.config import load
from medseg.training import forecast, time_shares
from medseg.training.forecast import Forecast
from medseg.training.time_shares import (
    AROUND,
    COMPARING_SHARE,
    COMPARISONS,
    LEAST_TRAINING_SHARE,
    MOST_AROUND,
    MOST_COMPARED,
    RESERVE,
    Fitting,
    TimeShares,
)


def test_all_held_back_cases_are_validated_where_there_is_time() -> None:
    shares = TimeShares.of(600, {"a": 10.0, "b": 20.0})
    assert shares.cases == ("a", "b")
    assert shares.training == pytest.approx(600 - RESERVE * 60 - AROUND)
    assert shares.validation == 60
    assert TimeShares.of(None, {"a": 10.0, "b": 20.0}) == TimeShares(float("inf"), 60, ("a", "b"), once=30)


def test_nothing_is_validated_on_the_way_where_that_takes_long() -> None:
    """Then the last weights are taken, and each case is predicted once, at the end."""
    seconds = {"a": 10.0, "b": 20.0}
    often, never = (TimeShares.of(max_time, seconds, share=0.1) for max_time in (900, 899))
    assert (often.once, often.validation) == (30, 60)
    assert (never.once, never.validation) == (float("inf"), 30)
    assert never.training == pytest.approx(899 - RESERVE * 30 - AROUND)


def test_validation_takes_no_more_than_its_share() -> None:
    seconds = {f"case_{i:02}": 10.0 for i in range(40)}
    shares = TimeShares.of(900, seconds)
    taken = RESERVE * 20 * len(shares.cases)
    assert taken <= (1 - LEAST_TRAINING_SHARE) * 900 < taken + RESERVE * 20
    assert shares.training + taken + AROUND == pytest.approx(900)
    # From all over the list: names often stand for sites or dates.
    assert shares.cases[0] == "case_00"
    assert shares.cases[-1] >= "case_36"


@pytest.mark.parametrize(("slow", "tried"), [(0.0, ["a", "a", "b", "c"]), (10.0, ["a"])], ids=["small", "slow"])
def test_small_cases_are_tried_as_at_the_end(monkeypatch: pytest.MonkeyPatch, slow: float, tried: list[str]) -> None:
    """Alone, none is read while another is written: that makes validation look longer than it is."""
    told: list[str] = []

    class Predictor:
        def __init__(self, *_: object) -> None:
            self.read = self.segment = lambda case: case
            self.write = self.predict = told.append

    monkeypatch.setattr(time_shares, "CasePredictor", Predictor)
    monkeypatch.setattr(time_shares, "seconds_of", lambda work: (work(), 0.25 + slow)[1])
    run: Any = SimpleNamespace(
        split=SimpleNamespace(validation=("a", "b", "c")),
        dataset=SimpleNamespace(source_cases=list),
        config=SimpleNamespace(inference=None),
    )
    pace = time_shares._seconds_a_window(run, None, {"a": 1, "b": 1, "c": 3}, max_time=100)  # type: ignore[arg-type]
    assert told == tried
    assert pace == (0.25 + slow) / (1 if slow else 5)


def test_large_cases_count_for_what_they_take() -> None:
    assert len(TimeShares.of(100, {"small": 1.0, "large": 45.0}).cases) == 1


def test_one_case_is_validated_whatever_it_takes() -> None:
    shares = TimeShares.of(10, {"a": 50.0, "b": 50.0})
    assert shares.cases == ("a",)
    assert shares.training == pytest.approx(10 * (LEAST_TRAINING_SHARE - MOST_AROUND))


def test_settings_of_prediction_are_compared_where_that_takes_little() -> None:
    seconds = {f"case_{i:02}": 1.0 for i in range(20)}
    shares = TimeShares.of(1000, seconds, Fitting())
    assert len(shares.compared) == MOST_COMPARED and set(shares.compared) <= set(shares.cases)
    assert shares.comparing == COMPARISONS * MOST_COMPARED
    assert shares.validation == 40 + shares.comparing
    assert shares.training == pytest.approx(1000 - RESERVE * shares.validation - AROUND)
    fewer = TimeShares.of(200, seconds, Fitting())
    assert fewer.compared == ("case_00", "case_04", "case_08", "case_12", "case_16")
    assert fewer.comparing == COMPARING_SHARE * 200
    none = TimeShares.of(100, seconds, Fitting())
    assert none.compared == () and none.comparing == 0
    assert TimeShares.of(1000, {"a": 1.0, "b": 1.0}, Fitting()).compared == ()  # two cases say too little
    assert TimeShares.of(1000, seconds).compared == ()
    assert TimeShares.of(None, seconds, Fitting()).comparing == float("inf")


def test_quantising_has_a_share_of_its_own() -> None:
    seconds = {f"case_{i:02}": 1.0 for i in range(20)}
    assert TimeShares.of(1000, seconds, Fitting(30.0)).comparing == COMPARISONS * 10 + 30 + 10
    assert TimeShares.of(1000, seconds, Fitting(60.0)).comparing == COMPARISONS * 10


@pytest.mark.parametrize(
    ("setting", "window", "quantising"), [("true", 0.1, False), ("true", 2.0, True), ("false", 2.0, None)]
)
def test_only_slow_networks_are_quantised(
    monkeypatch: pytest.MonkeyPatch, setting: str, window: float, quantising: bool | None
) -> None:
    monkeypatch.setattr(time_shares, "can_quantise", lambda network, device: True)
    plan = SimpleNamespace(network_patch=(96, 96, 96))
    split = SimpleNamespace(training=("a", "b"), validation=("c", "d", "e"))
    run: Any = SimpleNamespace(config=load(overrides=[f"training.fit_inference={setting}"]), plan=plan, split=split)
    trainer: Any = SimpleNamespace(average=None, device=None)
    fitting = Fitting.of(run, trainer, window)
    assert (None if fitting is None else fitting.quantising > 0) is quantising
    run.split.validation = ("a", "c", "d")
    assert Fitting.of(run, trainer, window) is None  # they were trained on


def folds(*cases: int, max_time: str = "100s") -> list[Any]:
    """A run a fold with so many held-back cases, as far as a forecast looks at them."""
    dataset = SimpleNamespace(label_map=lambda case_id: np.zeros((2**10, 2**10), np.uint8))
    config = load(overrides=[f"training.max_time={max_time}", "training.fit_inference=false"])
    splits = [SimpleNamespace(training=(), validation=[f"case_{i}" for i in range(n)]) for n in cases]
    plan = SimpleNamespace(prompts=None)
    return [SimpleNamespace(config=config, dataset=dataset, split=split, plan=plan) for split in splits]


@pytest.mark.parametrize(("window_seconds", "trained", "validated"), [(1.0, 186.0, 8.0), (1000.0, 96.0, 2000.0)])
def test_each_fold_trains_for_what_its_own_validation_leaves(
    monkeypatch: pytest.MonkeyPatch, window_seconds: float, trained: float, validated: float
) -> None:
    monkeypatch.setattr(forecast, "windows_by_case", lambda run, trainer: dict.fromkeys(run.split.validation, 1))
    trainer: Any = SimpleNamespace(
        clock=SimpleNamespace(total_steps=10),
        device=SimpleNamespace(peak_memory_mb=lambda: 5.0),
        state=SimpleNamespace(best_score=None),
    )
    found = Forecast.of(folds(2, 4), trainer, step_seconds=0.5, window_seconds=window_seconds, run_bytes=2**20)
    assert found.steps is None and found.training_seconds == pytest.approx(trained)
    assert found.validation_seconds == pytest.approx(validated)
    assert found.disk_mb == 2 + 6


def test_a_forecast_leaves_out_the_cases_that_training_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five cases of 16 s, of which two fit in the 40 s that validation may take of 100 s, each predicted once."""
    monkeypatch.setattr(forecast, "windows_by_case", lambda run, trainer: dict.fromkeys(run.split.validation, 16))
    trainer: Any = SimpleNamespace(
        clock=SimpleNamespace(total_steps=10),
        device=SimpleNamespace(peak_memory_mb=lambda: 5.0),
        state=SimpleNamespace(best_score=None),
    )
    found = Forecast.of(folds(5), trainer, step_seconds=0.5, window_seconds=1.0, run_bytes=0)
    assert found.validation_seconds == pytest.approx(32)
    assert found.training_seconds == pytest.approx(100 - RESERVE * 32 - 2)
