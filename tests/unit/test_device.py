"""What depends on CUDA is tried with fakes: there is no GPU where the tests run."""

import copy
import platform
from pathlib import Path

import numpy as np
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
        choose_device("meta")
    with pytest.raises(ConfigError, match="fp16: needs CUDA"):
        choose_device("cpu", "fp16")
    with pytest.raises(ConfigError, match="precision fp64: is not known"):
        choose_device("cpu", "fp64")  # type: ignore[arg-type]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps what was freed")
def test_memory_that_was_freed_is_given_back() -> None:
    """Small blocks below one that is in use: glibc keeps them, and a case to come would find less than there is."""
    blocks = [np.ones(2**13 - 64) for _ in range(4000)]  # 64 KB each
    del blocks[:-1]
    before = CPU.memory_mb()
    CPU.release()
    assert CPU.memory_mb() < before - 100


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


def test_free_memory_of_a_gpu_includes_what_torch_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    megabytes = {"memory_reserved": 900, "memory_allocated": 300}
    for name, n in megabytes.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, n=n: n * 2**20)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000 * 2**20, 8000 * 2**20))
    assert CUDA.free_memory_mb() == 1600


def test_free_memory_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("medseg.device.CGROUP", tmp_path)
    cpu = Device(torch.device("cpu"), torch.float32)
    of_machine = cpu.free_memory_mb()
    assert of_machine > 10
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{2 * 2**20}\n")
    assert cpu.free_memory_mb() > 10
    (tmp_path / "memory.max").write_text(f"{5 * 2**20}\n")
    assert cpu.free_memory_mb() == 3


@pytest.mark.parametrize("shape", [(2, 4, 2), (2, 1, 4), (4, 4, 4), (1, 1, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1)])
def test_gradients_in_bf16_are_those_in_float32(shape: tuple[int, int, int], kernel: int, stride: int) -> None:
    """Where the image is as small as the kernel, oneDNN leaves memory that it never wrote in them."""
    convolution = torch.nn.Conv3d(32, 32, kernel, stride, kernel // 2, bias=False)
    network = Device(torch.device("cpu"), torch.bfloat16).place(torch.nn.Sequential(convolution), 3)
    image = torch.randn(1, 32, *shape)
    gradients = []
    for low in (False, True):
        for _ in range(2):
            del_soon = [torch.full((27 * 32 * 32,), 1e18) for _ in range(3)]  # what the next array may find
            del del_soon
            convolution.weight.grad = None
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                logits = network(image)
            logits.float().pow(2).sum().backward()
            assert convolution.weight.grad is not None
            gradients.append(convolution.weight.grad)
    largest = float(gradients[0].abs().max())
    for gradient in gradients[1:]:
        assert float((gradient - gradients[0]).abs().max()) < 0.1 * largest


@pytest.mark.parametrize("shape", [(2, 4, 2), (2, 1, 4)])
def test_gradients_of_a_network_that_is_bf16_itself_are_those_in_float32(shape: tuple[int, int, int]) -> None:
    reference = torch.nn.Conv3d(32, 32, 3, padding=1)
    convolution = copy.deepcopy(reference).bfloat16()
    network = CPU.place(torch.nn.Sequential(convolution), 3)
    image = torch.randn(1, 32, *shape)
    reference(image).pow(2).sum().backward()
    expected = reference.weight.grad
    assert expected is not None
    for _ in range(3):
        del_soon = [torch.full((27 * 32 * 32,), 1e18, dtype=torch.bfloat16) for _ in range(3)]
        del del_soon
        convolution.weight.grad = None
        logits = network(image.bfloat16())
        assert logits.dtype == torch.bfloat16
        logits.float().pow(2).sum().backward()
        gradient = convolution.weight.grad
        assert gradient is not None and gradient.dtype == torch.bfloat16
        assert float((gradient.float() - expected).abs().max()) < 0.1 * float(expected.abs().max())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(network(image).float(), reference(image).float(), atol=0.05)


def test_cudnn_tries_convolutions_for_usual_batches_only() -> None:
    before = torch.backends.cudnn.benchmark
    with CUDA.timed("window"):
        assert torch.backends.cudnn.benchmark is True
        with CUDA.timed("window", is_usual=False):
            assert torch.backends.cudnn.benchmark is False
    assert torch.backends.cudnn.benchmark is before


def test_what_lies_on_a_gpu_already_is_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's loader may give batches there; pin_memory refuses them."""

    class OnGpu:
        device = torch.device("cuda")

        def to(self, device: torch.device, non_blocking: bool) -> str:
            return f"{device} {non_blocking}"

    assert CUDA.send(OnGpu()) == "cuda True"  # type: ignore[arg-type, comparison-overlap]


def test_an_apple_gpu_is_taken_where_it_is_asked_for_and_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no Apple GPU is present"):
        choose_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    device = choose_device("mps")
    assert (device.torch_device.type, device.dtype, device.is_cuda, device.is_cpu) == (
        "mps", torch.float32, False, False,
    )  # fmt: skip
    assert str(device) == "Apple GPU (mps, float32)"
    assert choose_device("auto").torch_device.type != "mps"
    with pytest.raises(ConfigError, match="networks run in fp32"):
        choose_device("mps", "bf16")
