"""All that depends on the device: which one, in which precision, and how arrays get there.

Kept small on purpose: it is what cannot be tried on a machine without a GPU.
"""

import ctypes
import gc
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import torch

from medseg.cpu_layers import on_cpu
from medseg.errors import ConfigError
from medseg.threads import Threads

Precision = Literal["auto", "fp32", "bf16", "fp16"]
CGROUP = Path("/sys/fs/cgroup")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = {"cpu": "processor", "cuda": "GPU", "mps": "Apple GPU"}


@dataclass(frozen=True)
class Device:
    """A torch device and the precision in which networks run on it."""

    torch_device: torch.device
    dtype: torch.dtype
    threads: Threads = field(default_factory=Threads, compare=False)  # of a processor

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU that CUDA runs."""
        return self.torch_device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        """Whether it is a processor, whose memory all arrays lie in."""
        return self.torch_device.type == "cpu"

    @property
    def needs_loss_scaling(self) -> bool:
        """Whether gradients would underflow without a scale: those of fp16 do, those of bf16 don't."""
        return self.dtype == torch.float16

    def autocast(self) -> AbstractContextManager[None]:
        """Returns a context for what a network computes, in the precision of this device."""
        return torch.autocast(self.torch_device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def timed(self, kind: Hashable, work: float = 1.0, is_usual: bool = True) -> AbstractContextManager[None]:
        """Returns a context for a step of the network.

        On CUDA it takes the fastest convolutions, on a processor as many threads as are fast; see ``Threads``.

        Args:
            kind: Steps of one kind are compared with each other.
            work: They are compared by their time for a unit of work.
            is_usual: Whether so large a batch comes often. For one that does not, CUDA tries no convolutions: that
                takes longer than a slower convolution does.
        """
        if self.is_cuda:
            return _convolutions(tuned=is_usual)
        return self.threads.timed(kind, work) if self.is_cpu else nullcontext()

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns a tensor on the device; on CUDA from pinned memory, and without waiting."""
        if self.is_cpu:
            return tensor
        if self.is_cuda and tensor.device.type == "cpu":  # others can't be pinned, as those of a user's loader
            tensor = tensor.pin_memory()
        return tensor.to(self.torch_device, non_blocking=self.is_cuda)

    def place(self, network: torch.nn.Module, dims: int) -> torch.nn.Module:
        """Returns the network on the device, in the layout and with the layers that it is fastest with there."""
        if self.is_cpu:
            network = on_cpu(network)
        return network.to(self.torch_device).to(memory_format=self.memory_format(dims))  # type: ignore[call-overload, no-any-return]

    def memory_format(self, dims: int) -> torch.memory_format:
        """Returns the layout of images and weights in which convolutions of 2 or 3 ``dims`` are fastest."""
        if self.torch_device.type == "mps":  # Metal's convolutions know channels first only
            return torch.contiguous_format
        return torch.channels_last_3d if dims == 3 else torch.channels_last

    def forget_peak(self) -> None:
        """Lets peak memory count from now on (on Linux and on CUDA; elsewhere it is that of the process so far)."""
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.torch_device)
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # Linux resets VmHWM

    def release(self) -> None:
        """Gives memory that is used no longer back to the system: glibc keeps what a large case has freed."""
        if self.is_cpu:
            gc.collect()
            with suppress(OSError, AttributeError, TypeError):  # no glibc
                ctypes.CDLL(None).malloc_trim(0)

    def memory_mb(self) -> float:
        """Returns what is taken now, 0 where the system doesn't tell."""
        if self.is_cuda:
            return torch.cuda.memory_allocated(self.torch_device) / 2**20
        return _status_mb("VmRSS")

    def peak_memory_mb(self) -> float:
        """Returns the peak memory since ``forget_peak``: of the GPU's allocator on CUDA, resident memory on a
        processor."""
        if self.is_cuda:
            return torch.cuda.max_memory_allocated(self.torch_device) / 2**20
        return _status_mb("VmHWM") or resident_peak_mb()

    def free_memory_mb(self) -> float:
        """Returns what may still be taken, of the GPU, or of the machine or the container."""
        if self.is_cuda:
            kept = torch.cuda.memory_reserved(self.torch_device) - torch.cuda.memory_allocated(self.torch_device)
            return (torch.cuda.mem_get_info(self.torch_device)[0] + kept) / 2**20
        return min(psutil.virtual_memory().available, _free_in_container()) / 2**20

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.torch_device) if self.is_cuda else NAMES[self.torch_device.type]
        return f"{name} ({self.torch_device}, {str(self.dtype).removeprefix('torch.')})"


def choose_device(name: str = "auto", precision: Precision = "auto", threads: int | None = None) -> Device:
    """Returns a device by its name.

    Args:
        name: ``"auto"`` takes CUDA where it is present, else the processor.
        precision: Of what networks compute.
        threads: Always so many; None: as many as are fast.

    Raises:
        ConfigError: It isn't there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: is no device; give auto, cpu, cuda, cuda:1 or mps") from error
    if device.type not in NAMES:
        raise ConfigError(f"--device {name}: is not supported; give auto, cpu, cuda, cuda:1 or mps")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"--device {name}: no Apple GPU is present; give auto or cpu")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(f"--device {name}: {count} CUDA devices are present; give auto or cpu")
    return Device(device, _dtype(device, precision), Threads(fixed=threads))


def _dtype(device: torch.device, precision: Precision) -> torch.dtype:
    if precision != "auto":
        if precision not in DTYPES:
            raise ConfigError(f"precision {precision}: is not known; give auto, {', '.join(DTYPES)}")
        if precision != "fp32" and device.type == "mps":
            raise ConfigError(f"precision {precision}: on mps networks run in fp32; take auto or fp32")
        if precision == "fp16" and device.type == "cpu":
            raise ConfigError("precision fp16: needs CUDA; on a processor take auto, bf16 or fp32")
        return DTYPES[precision]
    if device.type == "mps":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


@contextmanager
def _convolutions(tuned: bool) -> Iterator[None]:
    """Lets cuDNN try its algorithms on the first arrays of a shape and keep the fastest, or take the one that it thinks
    best; restores its setting."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = tuned
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _cpu_has_bf16() -> bool:
    """Returns whether the processor multiplies bf16 itself; where it is emulated, it is slower than float32."""
    flags = torch.backends.cpu.get_cpu_capability()
    return "AVX512" in flags and bool(torch.cpu._is_avx512_bf16_supported())


def _free_in_container() -> float:
    """Returns the bytes that are free; infinite where nothing limits this process (by cgroup v2)."""
    with suppress(OSError, ValueError):  # there is no such file, or it says "max"
        return int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text())
    return float("inf")


def _status_mb(name: str) -> float:
    """Returns a line of Linux's account of this process; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith(f"{name}:")), 0.0)


def resident_peak_mb() -> float:
    """Returns the peak resident memory of this process in MB, 0 where the system doesn't tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
