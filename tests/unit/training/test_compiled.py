import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from medseg.device import Device
from medseg.training.compiled import compiled

CPU = Device(torch.device("cpu"), torch.float32)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 1))


IMAGE = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))


def fails(network: nn.Module, **_: object) -> Callable[[torch.Tensor], torch.Tensor]:
    raise RuntimeError("no compiler\nat all")


def lies(network: nn.Module, **_: object) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: network(image) + 1


@pytest.mark.parametrize(
    ("broken", "told"), [(fails, "torch.compile fails on this network (no compiler)"), (lies, "gives other logits")]
)
def test_a_network_that_cannot_be_compiled_is_trained_as_it_is(
    network: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: Callable[..., object],
    told: str,
) -> None:
    before = copy.deepcopy(network.state_dict())
    monkeypatch.setattr(torch, "compile", broken)
    assert compiled(network, IMAGE, CPU, 0) is network
    assert told in " ".join(capsys.readouterr().err.split())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_and_leaves_no_trace(network: nn.Module) -> None:
    before = copy.deepcopy(network.state_dict())
    candidate = compiled(network, IMAGE, CPU, 0)
    assert candidate is not network
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.allclose(candidate(IMAGE), network(IMAGE), atol=1e-5)  # type: ignore[arg-type]
