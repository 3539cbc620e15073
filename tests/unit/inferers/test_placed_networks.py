from contextlib import nullcontext

import pytest
import torch
from torch import nn

from medseg.architecture import Architecture
from medseg.device import Device
from medseg.inferers.predictor import Predictor
from medseg.networks.registry import build_network
from medseg.plan import Plan

CPU = Device(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["unet", "residual-unet"])
def test_logits_and_names_of_weights_stay(name: str, dims: int) -> None:
    strides = ((1,) * dims, (2,) * dims, (2,) * dims)
    architecture = Architecture(name=name, features=(4, 8, 16), strides=strides, kernel_sizes=((3,) * dims,) * 3)
    network = build_network(1, 3, architecture).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    image = 2 + 3 * torch.randn(2, 1, *(19, 16, 24)[:dims])
    names = network.state_dict().keys()
    with torch.inference_mode():
        expected = network(image)
        CPU.place(network, dims)
        logits = network(image)
    assert not any(type(module) in (nn.InstanceNorm2d, nn.InstanceNorm3d) for module in network.modules())
    assert network.state_dict().keys() == names
    assert torch.allclose(logits, expected, atol=1e-4 * float(expected.abs().max()))


def test_what_remains_of_a_row_of_windows_is_no_usual_batch(monkeypatch: pytest.MonkeyPatch, tiny_plan: Plan) -> None:
    """cuDNN would try its algorithms again for each size."""
    seen: list[tuple[float, bool]] = []

    def timed(self: Device, kind: object, work: float = 1.0, is_usual: bool = True) -> nullcontext[None]:
        seen.append((work, is_usual))
        return nullcontext()

    monkeypatch.setattr(Device, "timed", timed)
    predictor = Predictor(lambda windows: windows, tiny_plan, CPU)
    for n in (3, 4, 4, 1, 4):
        assert predictor(torch.zeros(n, 1, 8, 8, 8)).shape == (n, 1, 8, 8, 8)
    assert seen == [(3, True), (4, True), (4, True), (1, False), (4, True)]


def test_normalization_without_weights_is_taken_too() -> None:
    network = CPU.place(nn.Sequential(nn.InstanceNorm2d(3)), 2)
    image = torch.randn(2, 3, 5, 4)
    assert torch.allclose(network(image), nn.functional.instance_norm(image), atol=1e-5)
