import pytest
import torch

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.training.run import resolve_plan

CPU = Device(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_centre_of_valid_convolutions_is_at_least_the_patch(prepared: PreparedDataset, dims: int) -> None:
    plan, _ = resolve_plan(prepared, dims, load(), CPU)
    valid, _ = resolve_plan(prepared, dims, load(overrides=["network.name=unet-2015"]), CPU)
    padded, _ = resolve_plan(prepared, dims, load(overrides=["network.name=unet-2015-padded"]), CPU)
    assert padded.patch_size == plan.patch_size
    assert all(large > small for large, small in zip(valid.network_patch, plan.network_patch, strict=True))
    if dims == 2:
        assert valid.patch_size[valid.slice_axis or 0] == 1
