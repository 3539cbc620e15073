from typing import Literal

import pytest
import torch
from parameters import mostly_slow

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.networks.entries import NETWORKS
from medseg.planning.candidates import STEPS_OF_FULL_WIDTH, WIDTHS
from medseg.training.budget import TRAINING_SHARE, Budget
from medseg.training.run import resolve_plan

CPU = Device(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_centre_of_valid_convolutions_is_at_least_the_patch(prepared: PreparedDataset, dims: Literal[2, 3]) -> None:
    plan, _ = resolve_plan(prepared, dims, load(), CPU)
    valid, _ = resolve_plan(prepared, dims, load(overrides=["network.name=unet-2015"]), CPU)
    padded, _ = resolve_plan(prepared, dims, load(overrides=["network.name=unet-2015-padded"]), CPU)
    assert padded.patch_size == plan.patch_size
    assert all(large > small for large, small in zip(valid.network_patch, plan.network_patch, strict=True))
    if dims == 2:
        assert valid.patch_size[valid.slice_axis or 0] == 1


@pytest.mark.parametrize(
    ("steps", "features"),
    [(1, 8), (WIDTHS[16] - 1, 8), (WIDTHS[16], 16), (WIDTHS[24], 32), (STEPS_OF_FULL_WIDTH + 1, 32)],
)
def test_a_network_is_as_wide_as_there_is_time_for(
    prepared: PreparedDataset, monkeypatch: pytest.MonkeyPatch, steps: int, features: int
) -> None:
    monkeypatch.setattr(Budget, "_step_seconds", lambda self, plan: 0.5)
    config = load(overrides=[f"training.max_time={steps * 0.5 / TRAINING_SHARE}"])
    plan, _ = resolve_plan(prepared, 3, config, CPU)
    assert plan.architecture.features[0] == features


@pytest.mark.parametrize(
    ("setting", "features"),
    [
        ("training.fit_to_time=false", 16),
        ("planning.cpu_base_features=12", 12),
        ("network.features=[4,8,16]", 4),
        ("training.batch_size=3", 32),  # the width is still open
        ("planning.patch_size=[16,16,16]", 32),
    ],
)
def test_what_the_user_chose_stays(
    prepared: PreparedDataset, monkeypatch: pytest.MonkeyPatch, setting: str, features: int
) -> None:
    monkeypatch.setattr(Budget, "_step_seconds", lambda self, plan: 1e-6)
    plan, _ = resolve_plan(prepared, 3, load(overrides=["training.max_time=1d", setting]), CPU)
    assert plan.architecture.features[0] == features
    if "batch_size" in setting:
        assert plan.batch_size == 3
    if "patch_size" in setting:
        assert plan.patch_size == (16, 16, 16)


def test_steps_alone_set_no_width(prepared: PreparedDataset) -> None:
    plan, _ = resolve_plan(prepared, 3, load(overrides=["training.epochs=100000"]), CPU)
    assert plan.architecture.features[0] == 16


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", mostly_slow([*NETWORKS, "monai.BasicUNet"], "unet"))
def test_every_network_has_rungs(
    prepared: PreparedDataset, monkeypatch: pytest.MonkeyPatch, name: str, dims: Literal[2, 3]
) -> None:
    tried = []
    monkeypatch.setattr(Budget, "_step_seconds", lambda self, plan: tried.append(plan) or 1e-6)
    settings = [f"network.name={name}", "training.max_time=1d"]
    plan, _ = resolve_plan(prepared, dims, load(overrides=settings), CPU)
    assert len(tried) > 1
    assert plan.architecture == tried[-1].architecture
