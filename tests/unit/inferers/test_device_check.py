"""A GPU that is not trusted is a fake here: arrays stay in main memory, and the network does what the test says."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from medseg.config import Config, load
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.inferers.device_check import placed_network
from medseg.training import device_check
from medseg.training.device_check import sound_device, usual_plan
from medseg.training.parts import NO_OWN_PARTS

MPS = Device(torch.device("mps"), torch.float32)
SHAPE = (1, 8, 8, 8)


class Network(nn.Module):
    """Says on the fake device what the test wants."""

    def __init__(self, there: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.convolution, self.there, self.is_there = nn.Conv3d(1, 2, 3, padding=1), there, False

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.convolution(image)
        return self.there(logits) if self.is_there else logits


@pytest.fixture(autouse=True)
def fake_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Device.place

    def placed_here(self: Device, network: nn.Module, dims: int) -> nn.Module:
        for module in network.modules():
            if hasattr(module, "is_there"):
                module.is_there = self.torch_device.type == "mps"
        return network if self.torch_device.type == "mps" else place(self, network, dims)

    monkeypatch.setattr(Device, "place", placed_here)
    monkeypatch.setattr(Device, "send", lambda self, tensor: tensor)


def missing(logits: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError("The operator 'aten::conv_transpose3d' is not currently implemented for MPS. Set …")


def test_a_network_that_computes_the_same_goes_there() -> None:
    network, device = placed_network(Network(lambda logits: logits * 1.001), SHAPE, MPS)
    assert device is MPS
    assert network.is_there


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (missing, "The operator 'aten::conv_transpose3d' is not currently implemented for MPS"),
        (lambda logits: logits + 0.5, "gives other logits"),
        (lambda logits: logits * torch.nan, "gives other logits"),
    ],
)
def test_another_stays_on_the_processor(
    there: Callable[[torch.Tensor], torch.Tensor], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network, device = placed_network(Network(there), SHAPE, MPS)
    assert device.is_cpu
    assert not network.is_there
    shown = " ".join(capsys.readouterr().err.split())
    assert told in shown
    assert "the processor takes its place" in shown


def test_processors_and_cuda_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "place", lambda self, network, dims: network)
    network = Network(missing)
    for name in ("cpu", "cuda"):
        device = Device(torch.device(name), torch.float32)
        assert placed_network(network, SHAPE, device) == (network, device)


@pytest.fixture
def config() -> Config:
    return load(overrides=["planning.cpu_base_features=4", "planning.cpu_patch_voxels=512"])


@pytest.mark.parametrize("fault", ["", "missing", "other loss"])
def test_one_step_of_training_decides(
    fault: str,
    prepared: PreparedDataset,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, tried = device_check._step, []

    def step(device: Device, *rest: object) -> object:
        tried.append(device.torch_device.type)
        if device is MPS and fault == "missing":
            raise NotImplementedError("no grid_sampler_3d on MPS")
        epoch = real(Device(torch.device("cpu"), torch.float32), *rest)  # type: ignore[arg-type]
        epoch.loss *= 1.2 if device is MPS and fault else 1.0
        return epoch

    monkeypatch.setattr(device_check, "_step", step)
    chosen = sound_device(MPS, lambda: usual_plan(prepared, 2, config), prepared, config, NO_OWN_PARTS)
    assert (chosen is MPS) == (not fault)
    assert tried[:2] == ["cpu", "mps"]
    shown = " ".join(capsys.readouterr().err.split())
    wanted = {"": "", "missing": "no grid_sampler_3d on MPS", "other loss": "it learns otherwise there"}[fault]
    assert wanted in shown
    assert bool(shown) == bool(fault)


def test_without_such_a_gpu_nothing_is_asked(prepared: PreparedDataset, config: Config) -> None:
    cpu = Device(torch.device("cpu"), torch.float32)
    assert sound_device(cpu, lambda: pytest.fail("asked"), prepared, config, NO_OWN_PARTS) is cpu
