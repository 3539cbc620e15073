"""What depends on CUDA is tried with fakes: there is no GPU where the tests run."""

import pytest
import torch

from medseg.device import Device, choose_device
from medseg.errors import ConfigError

CPU = Device(torch.device("cpu"), torch.float32)
CUDA = Device(torch.device("cuda"), torch.float16)


def test_wrong_devices_and_precisions_are_refused() -> None:
    with pytest.raises(ConfigError, match="is no device"):
        choose_device("gpu")
    with pytest.raises(ConfigError, match="not supported"):
        choose_device("mps")
    with pytest.raises(ConfigError, match="fp16 needs CUDA"):
        choose_device("cpu", "fp16")


def test_cuda_is_taken_where_it_is_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, s=supported: s)
        device = choose_device("auto")
        assert (device.torch_device.type, device.dtype) == ("cuda", dtype)
        assert device.needs_loss_scaling == (dtype == torch.float16)
    with pytest.raises(ConfigError, match="1 CUDA devices are present"):
        choose_device("cuda:1")


def test_missing_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").torch_device.type == "cpu"
    with pytest.raises(ConfigError, match="0 CUDA devices are present"):
        choose_device("cuda")


def test_tensors_go_to_cuda_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: calls.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: calls.append((a, k)) or self)
    CUDA.send(torch.zeros(1))
    assert calls == ["pinned", ((torch.device("cuda"),), {"non_blocking": True})]
    tensor = torch.zeros(1)
    assert CPU.send(tensor) is tensor
