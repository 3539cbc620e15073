from dataclasses import replace

import pytest
import torch
from sliding import CPU, Ramps, plan

from medseg.config import InferenceConfig
from medseg.device import Device
from medseg.errors import ConfigError, MedsegError
from medseg.inferers.memory_plan import MemoryDemand, MemoryPlan, bytes_of, in_units, usual_memory_plan, window_bytes
from medseg.inferers.predictor import Predictor
from medseg.inferers.windows import Layout

CUDA = Device(torch.device("cuda"), torch.float16)
LAYOUT = Layout((512, 512, 300), (128, 128, 128), (0, 0, 0), 0.5)
USUAL = MemoryPlan(4)


def demand(labels: int) -> MemoryDemand:
    return MemoryDemand(
        layout=LAYOUT, source=(512, 512, 300), channels=1, labels=labels, window=2**30, before=2**29
    )  # fmt: skip


def test_the_forecast_counts_the_sums_of_a_row_not_of_the_volume() -> None:
    forecast = demand(61).forecast(MemoryPlan(1), CPU)
    row, volume = 4 * 61 * 128 * 512 * 300, 4 * 61 * 512 * 512 * 300
    assert row < forecast < volume / 2
    assert demand(61).forecast(MemoryPlan(1, dtype=torch.float16), CPU) < forecast - 0.4 * row
    assert demand(61).forecast(MemoryPlan(4), CPU) > forecast + 3 * 2**30


def test_the_fastest_that_fits_is_taken() -> None:
    of = demand(61)
    costs = [
        of.forecast(room, CPU) for room in (USUAL, MemoryPlan(2), MemoryPlan(1), MemoryPlan(1, dtype=torch.float16))
    ]
    assert costs == sorted(costs, reverse=True)
    assert of.plan_within(USUAL, CPU, costs[0]) == USUAL
    assert of.plan_within(USUAL, CPU, costs[0] - 1) == MemoryPlan(2)
    assert of.plan_within(USUAL, CPU, costs[3]) == MemoryPlan(1, dtype=torch.float16)
    with pytest.raises(MedsegError, match=f"the least that would do is {in_units(costs[3])}"):
        of.plan_within(USUAL, CPU, costs[3] - 1)


def test_on_a_gpu_the_sums_go_to_main_memory_before_a_case_is_refused() -> None:
    of = demand(61)
    assert of.plan_within(USUAL, CUDA, 2**33) == MemoryPlan(1)
    assert of.plan_within(USUAL, CUDA, 3 * 2**30) == MemoryPlan(1, sums_on_device=False)


def test_on_a_gpu_decoding_is_counted_too() -> None:
    """Where windows take little, the labels of a slab are what memory has to hold."""
    small = replace(demand(61), window=2**20)
    row = 128 * 512 * 300
    sums = 4 * 62 * row
    assert small.forecast(MemoryPlan(1), CUDA) > sums + 8 * row + small.before
    padded = replace(small, layout=replace(LAYOUT, shape=(512, 512, 100)))
    copied = 4 * 61 * 128 * 512 * 128
    assert padded.forecast(MemoryPlan(1), CUDA) > copied + 4 * 62 * 128 * 512 * 128


def test_rows_of_a_2d_network_fill_a_batch() -> None:
    layout = Layout((64, 64, 40), (32, 32, 1), (0, 0, 0), 0.5)
    assert (layout.axis, layout.windows_per_row) == (2, 9)
    assert usual_memory_plan(layout, plan(2), InferenceConfig()) == MemoryPlan(16, rows_at_once=2)


def test_what_a_window_takes_is_measured() -> None:
    class Large(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return Ramps()(image + torch.ones(2**26).sum())  # 256 MB for a moment

    layout = Layout((8, 8, 8), (8, 8, 8), (0, 0, 0), 0.5)
    taken = window_bytes(Predictor(Large(), plan(3), CPU), layout, 1)
    assert 2**27 < taken < 2**30


def test_where_the_system_does_not_tell_outputs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "memory_mb", lambda self: 0.0)
    layout = Layout((8, 8, 8), (8, 8, 8), (0, 0, 0), 0.5)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 1), torch.nn.Conv3d(4, 2, 1))
    assert window_bytes(Predictor(network, plan(3), CPU), layout, 1) == (4 + 2 + 2) * 8**3 * 4


def test_amounts_of_memory() -> None:
    assert bytes_of("4GB") == bytes_of("4 gib") == bytes_of("4G") == bytes_of("4096MB") == 4 * 2**30
    assert bytes_of("1.5g") == 3 * 2**29
    assert in_units(bytes_of("800MB")) == "800 MB"
    assert in_units(2**30 + 1) == "1.1 GB"
    for wrong in ("much", "4XB", "0GB", "-1GB", ""):
        with pytest.raises(ConfigError, match="is no amount of memory"):
            bytes_of(wrong)
