"""The checks of benchmarks/gpu.py, each once on the processor, small; and what becomes of one that fails."""

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import gpu
from gpu_checks import CHECKS, runner
from gpu_checks.check import Check, Numbers, Setup

# They need a compiler, and a minute; a processor takes as long for convolutions in fp16, which it emulates. The others
# take seconds each.
SLOW = {
    "torch_compile", "compiled_training", "compiled_prediction", "training_fp16",
    "max_memory", "resume", "pace", "data_loading", "preparing", "workers", "process_group",
}  # fmt: skip
NOT_ON_A_PROCESSOR = {"training_memory", "little_memory"}
# What tells of speed or of a process's memory says nothing in a test.
NOT_JUDGED = {"pace", "data_loading", "max_memory"}


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup("cpu", tmp_path_factory.mktemp("gpu"), is_large=False)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CHECKS])
def test_each_check_runs_on_a_processor(name: str, setup: Setup) -> None:
    result = runner.result_of(CHECKS[name], setup)
    expected = {"passed", "failed"} if name in NOT_JUDGED else {"not here" if name in NOT_ON_A_PROCESSOR else "passed"}
    assert result.state in expected, result.message or result.numbers
    assert bool(result.numbers) == (result.state != "not here")
    assert CHECKS[name].title.endswith(".") or CHECKS[name].title


def test_all_of_them_fit_into_eight_minutes_and_the_plan_is_that_of_a_gpu(tmp_path: Path) -> None:
    assert gpu.SECONDS < 480
    plan = Setup("cpu", tmp_path).plan
    assert 0.5 * 128**3 < torch.tensor(plan.patch_size).prod() <= 1.1 * 128**3
    assert plan.architecture.features[0] == 32
    assert plan.architecture.features[-1] == 320
    assert plan.batch_size == 2


def fine(setup: Setup) -> Numbers:
    """Is fine."""
    return {"value": float(os.getpid())}


def fails(setup: Setup) -> Numbers:
    """Fails."""
    raise ValueError("as it has to")


def test_what_is_raised_and_a_limit_that_is_not_kept_are_results(setup: Setup) -> None:
    assert runner.result_of(Check("fails", fails, 1), setup).state == "error"
    assert "as it has to" in runner.result_of(Check("fails", fails, 1), setup).message
    assert runner.result_of(Check("fine", fine, 1, "value", at_most=0), setup).state == "failed"
    assert runner.result_of(Check("fine", fine, 1, "value", at_least=1), setup).state == "passed"
    not_a_number = Check("none", lambda setup: {"value": float("nan")}, 1, "value", at_most=1)
    assert runner.result_of(not_a_number, setup).state == "failed"


MORE_CHECKS = """
import os, time

def fine(setup):
    return {"process": float(os.getpid())}

def hangs(setup):
    time.sleep(600)

def dies(setup):  # as of an illegal access to memory
    os._exit(9)
"""


@pytest.mark.slow
def test_a_check_that_hangs_or_dies_does_not_end_the_rest(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "more_checks.py").write_text(MORE_CHECKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    functions = importlib.import_module("more_checks")
    ok = Check("fine", functions.fine, 60)
    checks = [ok, Check("hangs", functions.hangs, 1), ok, Check("dies", functions.dies, 60), ok]
    results = list(runner.run_checks(setup, checks, 300))
    assert [result.state for result in results] == ["passed", "out of time", "passed", "died", "passed"]
    assert len({result.numbers["process"] for result in results[::2]}) == 3
    assert [result.state for result in runner.run_checks(setup, [ok], 1)] == ["left out"]


def test_wheels_are_listed_without_those_of_pytorch() -> None:
    listed = gpu.wheels()
    names = [line.partition("==")[0] for line in listed]
    assert {"monai", "nibabel", "pydantic", "pydantic-core", "tifffile"} <= set(names)
    assert not {"torch", "numpy"} & set(names)
    assert all("==" in line for line in listed)
