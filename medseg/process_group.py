"""One run on several devices: a process for each, started by torchrun, that take every step together.

What a process has to know is a ``ProcessGroup``: which one it is, of how many. Each learns from its share of the batch;
sums and gradients are added up over all, so all have the same weights after each step. Decisions that could differ
(of the clock, of what lies on disk) are those of the first process, which alone writes.

Small messages go over gloo, whatever the device; gradients over nccl on CUDA. A process may wait for hours, while the
first one validates: that another one is lost is told by its closed connection and by torchrun, not by a time limit.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from medseg.device import Device, choose_device
from medseg.errors import ConfigError, MedsegError, TrainingError

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=30)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, as one of them sees it.

    Every method but ``share`` is called by all of them at once; values go from one to another pickled. A process group
    of one needs no torch.distributed and costs nothing.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Returns this process's part of ``n`` things; the parts differ by one at most."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def first(self, work: Callable[[], T]) -> T:
        """Returns what ``work`` gives, done by the first process alone.

        Raises:
            MedsegError: ``work`` raised it; all processes raise it then.
        """
        if self.size == 1:
            return work()
        done: list[Any] = [None, None]
        if self.is_first:
            try:
                done[0] = work()
            except MedsegError as error:
                done[1] = error
        distributed.broadcast_object_list(done, src=0)
        if done[1] is not None:
            raise done[1]
        return cast(T, done[0])

    def gather(self, value: T) -> list[T]:
        """Returns the values of all, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Returns whether ``flag`` is true in any process."""
        if self.size == 1:
            return flag
        most = torch.tensor(int(flag))
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return bool(most)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the sum over all, through which gradients flow back to all of them."""
        if self.size == 1:
            return tensor
        return cast(torch.Tensor, _Sum.apply(tensor))  # type: ignore[no-untyped-call]

    def wrap(self, network: torch.nn.Module, device: Device) -> torch.nn.Module:
        """Returns the network to call in training: its backward pass leaves the mean of all gradients in the
        parameters."""
        if self.size == 1:
            return network
        # The graph is the same at each step: so parameters that the loss doesn't reach, as networks of MONAI may have,
        # are found at the first one.
        devices = [device.torch_device] if device.is_cuda else None
        return DistributedDataParallel(network, device_ids=devices, static_graph=True)


ALONE = ProcessGroup()


class _Sum(torch.autograd.Function):
    """What a process puts into the sum counts in the losses of all. All of them have the same loss, that of the whole
    batch, so each gets the gradient of ``size`` times this loss; DistributedDataParallel takes the mean in the end."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the sum over all processes."""
        return _all_reduced(tensor)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Returns the gradient: the sum of the gradients of all processes."""
        return _all_reduced(gradients[0])


def _all_reduced(tensor: torch.Tensor) -> torch.Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def device_of_rank(name: str) -> str:
    """Returns the ``--device`` of this process: on CUDA each one of a machine has its own.

    Raises:
        ConfigError: One GPU is named for several processes.
    """
    if _world_size() == 1:
        return name
    if name.startswith("cuda:"):
        raise ConfigError(f"--device {name}: each of several processes takes its own; give auto, cuda or cpu")
    if name.startswith("mps"):
        raise ConfigError(f"--device {name}: there is one Apple GPU; several processes take cuda or cpu")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


@contextmanager
def joined(device: str) -> Iterator[ProcessGroup]:
    """Joins the process group that torchrun names in the variables that it sets; else a group of one.

    Args:
        device: See ``device_of_rank``.

    Raises:
        TrainingError: Another process is lost meanwhile.
    """
    if _world_size() == 1:
        yield ALONE
        return
    cuda = choose_device(device).is_cuda
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=LONGEST_WAIT)
    try:
        with warnings.catch_warnings():
            # DistributedDataParallel warns of axes of length one, whose strides mean nothing.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    except RuntimeError as error:
        if not _is_loss_of_a_process(error):
            raise
        raise TrainingError(
            "another process of the run was lost (killed, out of memory, or its machine is gone; torchrun names it "
            "below); the last checkpoint is whole: go on with --resume"
        ) from error
    finally:
        distributed.destroy_process_group()


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _is_loss_of_a_process(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


def check_batch(processes: ProcessGroup, batch_size: int) -> None:
    """Checks that there are not more processes than samples.

    Raises:
        ConfigError: There are.
    """
    if batch_size < processes.size:
        raise ConfigError(
            f"training.batch_size: a batch of {batch_size} cannot be shared by {processes.size} processes; set it to "
            f"{processes.size} or more, or start fewer processes"
        )
