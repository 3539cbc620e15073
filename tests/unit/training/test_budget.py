"""Time and memory are fakes but in one test, which really tries a step: what a machine has differs."""

import pytest
import torch

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.plan import Plan
from medseg.planning.candidates import CandidatePlan
from medseg.training.budget import MEMORY_SHARE, TRAINING_SHARE, Budget

CPU = Device(torch.device("cpu"), torch.float32)


@pytest.fixture
def plan(prepared: PreparedDataset) -> Plan:
    return prepared.plans.plan_2d.model_copy(update={"batch_size": 3})


@pytest.fixture
def budget(prepared: PreparedDataset) -> Budget:
    return Budget(100.0, prepared, load(), CPU)


def test_the_time_has_to_be_enough_for_the_steps(budget: Budget, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "_step_seconds", lambda self, plan: 0.5)
    enough = int(TRAINING_SHARE * 100 / 0.5)
    assert budget.pays_for(CandidatePlan(plan, enough))
    assert not budget.pays_for(CandidatePlan(plan, enough + 1))
    assert [budget.steps(candidate) for candidate in budget.tried] == [enough, enough]


def test_what_memory_does_not_hold_is_not_even_tried(
    budget: Budget, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(Device, "forget_peak", lambda self: None)
    monkeypatch.setattr(Device, "memory_mb", lambda self: 200.0)
    monkeypatch.setattr(Device, "peak_memory_mb", lambda self: 200 + 100 * tried[-1] / 3)
    monkeypatch.setattr(Device, "free_memory_mb", lambda self: 250 / MEMORY_SHARE)
    monkeypatch.setattr(Budget, "_step_seconds", lambda self, plan: tried.append(plan.batch_size) or 0.001)
    for batch_size in (3, 6, 9):  # 100, 200 and 300 MB
        candidate = CandidatePlan(plan.model_copy(update={"batch_size": batch_size}), 1)
        assert budget.pays_for(candidate) == (batch_size < 9)
    assert tried == [3, 6]


def test_a_full_gpu_pays_for_nothing(budget: Budget, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Budget, plan: Plan) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Budget, "_step_seconds", full)
    candidate = CandidatePlan(plan, 1)
    assert not budget.pays_for(candidate)
    assert candidate not in budget.tried


@pytest.mark.parametrize("processes", [1, 2])
def test_a_real_step_is_tried(prepared: PreparedDataset, plan: Plan, processes: int) -> None:
    budget = Budget(1000.0, prepared, load(), CPU, processes)
    assert budget._noise(plan).image.shape[0] == (3 if processes == 1 else 2)
    candidate = CandidatePlan(plan, 1)
    assert budget.pays_for(candidate)
    assert 0 < budget.tried[candidate] < 60


def test_a_rate_that_is_too_high_is_left_to_the_watchdog(prepared: PreparedDataset, plan: Plan) -> None:
    config = load(overrides=["training.learning_rate=1e6", "training.optimizer=sgd"])
    assert Budget(1000.0, prepared, config, CPU).pays_for(CandidatePlan(plan, 1))
