"""How much memory prediction takes, told before it begins, and how to make do with less.

All of it follows from shapes, but for what the network needs for a window: that is measured with one window.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import torch

from medseg.config import InferenceConfig
from medseg.device import Device
from medseg.errors import ConfigError, MedsegError
from medseg.inferers.model import Model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.predictor import Predictor
from medseg.inferers.windows import Layout, window_of
from medseg.instances.grouping import VOXELS_AT_ONCE
from medseg.plan import Plan
from medseg.transforms.model_grid import ModelGridRule
from medseg.volume import Geometry, Shape3

WINDOW_BATCH_SIZE = {2: 16, 3: 4}

# What decoding takes for a part of a slab (``restoring.VOXELS_AT_ONCE``), estimated.
DECODING_BYTES = 200 * 2**20

# What grouping into objects takes beside that, in bytes a voxel of those that it looks at together, measured.
GROUPING_BYTES = 100

# What decoding takes on a GPU for a voxel of a slab: its label as int64, and as uint8, with those of its neighbours.
DECODED_BYTES = 12

# Copies of all voxels that live at a time, in bytes a voxel, estimated from the code: preparing holds three
# float32 images of the source beside the one that was read; writing holds label maps, one of them as another reader
# reads it.
PREPARING_BYTES = 12
WRITING_BYTES = 12

# Allocators keep some of what is freed.
SAFETY = 1.1

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class MemoryPlan:
    """How much memory windows may take; results are the same but for rounding.

    Attributes:
        batch_size: Windows that the network gets at a time.
        rows_at_once: Rows of windows that are predicted before voxels leave.
        dtype: Of the sums of logits.
        sums_on_device: Whether they lie on the device of the network, or in main memory.

    Example:
        >>> from medseg.inferers import MemoryPlan
        >>> least = MemoryPlan(batch_size=1, dtype=torch.bfloat16, sums_on_device=False)
        >>> least.rows_at_once
        1
    """

    batch_size: int
    rows_at_once: int = 1
    dtype: torch.dtype = torch.float32
    sums_on_device: bool = True


@dataclass(frozen=True)
class MemoryDemand:
    """What one case asks for. Bytes but for shapes and numbers."""

    layout: Layout
    source: Shape3
    channels: int
    labels: int  # outputs of the network
    window: int  # of the network for one window, its logits among them
    before: int  # taken already: libraries, weights, the volume that was read
    has_objects: bool = False  # whether voxels are grouped into objects

    def forecast(self, memory_plan: MemoryPlan, device: Device) -> int:
        """Returns the peak in bytes: of the GPU on CUDA, of the process on a processor."""
        layout = replace(self.layout, rows_at_once=memory_plan.rows_at_once)
        area = prod(layout.padded_shape) // layout.padded_shape[layout.axis]
        # A voxel of each segment and one more repeat what came before; and there are the weights.
        sums = (layout.height + 4) * area * (self.labels * memory_plan.dtype.itemsize + 4)
        # Logits of two even windows are kept.
        # nnU-Net's rule rounds logits by way of a copy in float16.
        rounding = 2 * self.labels * prod(layout.patch_size) if layout.rule == "nnunet" else 0
        windows, kept = memory_plan.batch_size * (self.window + rounding), 2 * self.labels * prod(layout.patch_size) * 4
        if device.is_cuda and not memory_plan.sums_on_device:
            return int(SAFETY * (windows + kept)) + self.before
        if device.is_cuda:
            # Finished logits are decoded there too: a copy of them where voxels were padded, and labels as int64.
            copied = 0 if layout.padded_shape == layout.shape else 4 * self.labels
            decoding = DECODING_BYTES + layout.height * area * (copied + DECODED_BYTES)
            return int(SAFETY * (max(windows, decoding) + kept + sums)) + self.before
        windows += kept
        source, model = prod(self.source), prod(self.layout.shape)
        seen = prod(n + 2 * m for n, m in zip(layout.padded_shape, layout.margin, strict=True))
        padded = 0 if seen == model else 4 * self.channels * seen
        preparing = self.channels * (PREPARING_BYTES * source + 8 * model)
        decoding = DECODING_BYTES + GROUPING_BYTES * min(VOXELS_AT_ONCE, source) * self.has_objects
        predicting = 4 * self.channels * model + padded + source + sums + max(windows, decoding)
        writing = WRITING_BYTES * source
        return int(SAFETY * max(preparing, predicting, writing)) + self.before

    def plan_within(self, usual: MemoryPlan, device: Device, max_memory: int) -> MemoryPlan:
        """Returns the fastest memory plan that fits.

        Args:
            usual: The plan where memory is no concern.
            device: Where the network lies.
            max_memory: Bytes.

        Raises:
            MedsegError: None fits. The error names the smallest value that would do.
        """
        choices = list(_ever_less(usual, device))
        for memory_plan in choices:
            if self.forecast(memory_plan, device) <= max_memory:
                return memory_plan
        least = min(self.forecast(memory_plan, device) for memory_plan in choices)
        raise MedsegError(
            f"--max-memory {in_units(max_memory)}: is too little for this case; the least that would do is "
            f"{in_units(least)}"
        )


@dataclass(frozen=True)
class MemoryForecast:
    """How a case is predicted where memory is limited, and what that is expected to take at most."""

    memory_plan: MemoryPlan
    peak: int  # bytes, forecast


@dataclass(frozen=True)
class MemoryLimit:
    """What a case may take, and what the model's network takes for a window."""

    max_memory: int  # bytes
    window: int  # bytes

    @classmethod
    def measured(cls, model: Model, config: InferenceConfig, max_memory: int) -> "MemoryLimit":
        """Tries the network on one window; more mirrored axes take no more than one.

        Args:
            model: Whose network it is.
            config: The settings of prediction.
            max_memory: Bytes.
        """
        plan = model.record.plan
        layout = Layout.of(model.network, plan, plan.in_space(window_of(model.network, plan, config), 1), config)
        mirrored = plan.mirrored_axes[:1] if config.mirror else ()
        predictor = Predictor(model.network, plan, model.device, mirrored)
        return cls(max_memory, window_bytes(predictor, layout, len(model.record.channels)))

    def plan_for(self, model: Model, source: Geometry, n_channels: int, config: InferenceConfig) -> MemoryForecast:
        """Returns the memory plan for a case on a grid, of so many channels.

        Raises:
            MedsegError: None fits. The error names the smallest value that would do.
        """
        plan = model.record.plan
        model.device.release()  # of the case before, in a process that predicts several
        # Cropping, which comes later, can only make it smaller.
        grid = ModelGridRule.of(plan.grid).grid_of(plan.grid.oriented(source))
        layout = Layout.of(model.network, plan, grid.shape, config)
        demand = MemoryDemand(
            layout=layout,
            source=source.shape,
            channels=n_channels,
            labels=len(model.record.outputs),
            window=self.window,
            before=int(model.device.memory_mb() * 2**20),
            has_objects=plan.objects is not None,
        )
        memory_plan = demand.plan_within(usual_memory_plan(layout, plan, config), model.device, self.max_memory)
        return MemoryForecast(memory_plan, demand.forecast(memory_plan, model.device))


@dataclass(frozen=True)
class MemoryLimits:
    """What a case may take, with one model after the other.

    Attributes:
        max_memory: Bytes.
        measured: By the folder of a model, once it was asked for.
    """

    max_memory: int
    measured: dict[Path, MemoryLimit] = field(default_factory=dict)

    def of(self, model: Model, config: InferenceConfig) -> MemoryLimit:
        """Returns the limit with a model, whose network is tried on one window when it is first asked for."""
        if model.folder not in self.measured:
            self.measured[model.folder] = MemoryLimit.measured(model, config, self.max_memory)
        return self.measured[model.folder]


def frugal_window(record: ModelRecord) -> tuple[int, ...] | None:
    """Returns the size of windows that are no larger than the patch, in voxels: where memory is limited.

    None: that of the patch, as ``InferenceConfig.window`` has it.
    """
    patch, window = record.plan.network_patch, record.inference.window
    return None if window is None else window if prod(window) <= prod(patch) else patch


def usual_memory_plan(layout: Layout, plan: Plan, config: InferenceConfig) -> MemoryPlan:
    """Returns the plan where memory is no concern: rows of windows that fill a batch."""
    usual = WINDOW_BATCH_SIZE[plan.dims]
    larger = 1.0 if config.window is None else prod(layout.patch_size) / prod(plan.patch_size)
    batch_size = config.window_batch_size or min(usual, max(1, int(usual / larger)))
    return MemoryPlan(batch_size, rows_at_once=-(-batch_size // layout.windows_per_row))


def _ever_less(memory_plan: MemoryPlan, device: Device) -> Iterator[MemoryPlan]:
    """Yields plans from the fastest to the most frugal."""
    while True:
        yield memory_plan
        if memory_plan.rows_at_once == memory_plan.batch_size == 1:
            break
        memory_plan = replace(
            memory_plan,
            batch_size=max(1, memory_plan.batch_size // 2),
            rows_at_once=max(1, memory_plan.rows_at_once // 2),
        )
    yield replace(memory_plan, sums_on_device=False) if device.is_cuda else replace(memory_plan, dtype=torch.float16)


def window_bytes(predictor: Predictor, layout: Layout, channels: int) -> int:
    """Returns what the network takes for one window, measured on one of noise, in bytes.

    Where the system doesn't tell memory, all that its modules put out is counted, which is more than ever lives at a
    time.
    """
    shape = [n + 2 * margin for n, margin in zip(layout.patch_size, layout.margin, strict=True)]
    device, counted = predictor.device, 0

    def count(_module: object, _inputs: object, output: object) -> None:
        nonlocal counted
        counted += output.nbytes if isinstance(output, torch.Tensor) else 0

    device.release()  # else the window may lie in what was used before, and nothing is seen of it
    device.forget_peak()
    before = device.memory_mb()
    with torch.inference_mode(), torch.nn.modules.module.register_module_forward_hook(count):
        predictor(torch.randn(1, channels, *shape))
    return int((device.peak_memory_mb() - before) * 2**20) if before else counted


def bytes_of(text: str) -> int:
    """Returns the bytes of ``4GB``, ``512 MB``, ``1.5g``, ``2GiB``.

    Raises:
        ConfigError: The text is no amount of memory.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", text, flags=re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"--max-memory {text}: is no amount of memory; write it as 4GB or 800MB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def in_units(n: int) -> str:
    """Returns a number of bytes in words, rounded up, so that what is told is enough."""
    if n < 2**30:
        return f"{-(-n // 2**20)} MB"
    return f"{-(-n * 10 // 2**30) / 10:.1f} GB"
