"""Sliding windows in bounded memory: windows in rows, and slabs of finished logits that leave between them.

The logits are those of MONAI's ``sliding_window_inference``, for any number of labels, in memory for no more than a row
of windows of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import torch

from medseg.device import Device
from medseg.errors import MedsegError, lacks_gpu_memory
from medseg.inferers.accumulator import Accumulator, Slab
from medseg.inferers.memory_plan import MemoryPlan
from medseg.inferers.windows import Layout, WindowRow
from medseg.progress import warn
from medseg.volume import Shape3

Result = TypeVar("Result")

PROCESSOR = torch.device("cpu")


class WindowPredictor(Protocol):
    """What a stream asks for the logits of windows."""

    device: Device

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Returns logits (window, label, x, y, z) of windows (window, channel, x, y, z), on the device."""

    def to_processor(self) -> None:
        """Goes on with a copy of the network in main memory, where the GPU has too little; the network stays."""


class Stream:
    """The windows of one image, and the slabs of logits that they add up to.

    When the GPU's memory runs out, the batch of windows is halved. When one window at a time is still too much, the
    sums move to main memory, then the network to the processor. Nothing that was summed is lost.

    Args:
        predictor: Gives the logits of windows.
        image: (channel, x, y, z), float32; a 2D image has one voxel along z.
        layout: Where the windows lie in the image.
        memory_plan: How many windows are seen at once, and where and in which precision their logits are summed.
    """

    def __init__(
        self, predictor: WindowPredictor, image: torch.Tensor, layout: Layout, memory_plan: MemoryPlan
    ) -> None:
        self.layout = replace(layout, rows_at_once=memory_plan.rows_at_once)
        self.image = image
        self.batch_size = memory_plan.batch_size
        self.predictor = predictor
        # An Apple GPU shares main memory, and has no float64, which watchers of the logits count in.
        is_mps = predictor.device.torch_device.type == "mps"
        where = predictor.device.torch_device if memory_plan.sums_on_device and not is_mps else PROCESSOR
        self.sums = Accumulator(self.layout, memory_plan.dtype, where)
        self.asked = 0  # how many windows the network saw

    def slabs(self) -> Iterator[Slab]:
        """Yields finished logits, from the first voxels along the layout's axis to the last."""
        image = self.layout.pad(self.image)
        rows = self.layout.rows()
        to_come = [row.start for row in rows[1:]] + [rows[-1].stop]
        for row, start in zip(rows, to_come, strict=True):
            with torch.inference_mode():
                self._predict(row, image)
                slabs = list(self.sums.finished(start))
            while slabs:
                yield slabs.pop(0)  # and hold it no longer

    def known(self, start: Shape3, image: torch.Tensor) -> torch.Tensor | None:
        """Returns the logits (label, x, y, z) of a window that the network need not see, or None.

        Args:
            start: The first voxel of the window.
            image: The padded image.
        """
        return None

    def logits(self, windows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Returns the logits ``(window, label, x, y, z)`` of as many windows, from the first on, as memory allows."""
        return self._or_with_less_memory(lambda: self._predicted(torch.stack(list(windows[: self.batch_size]))))

    def _predicted(self, windows: torch.Tensor) -> torch.Tensor:
        return self.predictor(windows)

    def _predict(self, row: WindowRow, image: torch.Tensor) -> None:
        starts = []
        for start in row.windows:
            known = self.known(start, image)
            if known is None:
                starts.append(start)
            else:
                self._add(row, known, start)
        self.asked += len(starts)
        while starts:
            for logits in self.logits([image[self.layout.seen(start)] for start in starts[: self.batch_size]]):
                self._add(row, logits, starts.pop(0))

    def _add(self, row: WindowRow, logits: torch.Tensor, start: Shape3) -> None:
        self._or_with_less_memory(lambda: self.sums.open(row, len(logits)))
        # On the GPU nothing is allocated while it is added, so that no window is ever added in part.
        self.sums.add(self._or_with_less_memory(lambda: self._at_sums(logits)), start)

    def _at_sums(self, logits: torch.Tensor) -> torch.Tensor:
        device = self.sums.device
        return logits.to(device, torch.float32 if device.type == "cuda" else None)

    def _or_with_less_memory(self, function: Callable[[], Result]) -> Result:
        while True:
            try:
                return function()
            except RuntimeError as error:
                if not lacks_gpu_memory(error):
                    raise
            # Only here: the error holds all arrays of the calls that it came through.
            self._free_memory()

    def _free_memory(self) -> None:
        """Does what takes less memory.

        Raises:
            MedsegError: Nothing is left to do.
        """
        if self.batch_size > 1:
            self.batch_size //= 2
        elif self.sums.device.type == "cuda":
            self.sums.move(PROCESSOR)
        elif not self.predictor.device.is_cpu:
            warn("The GPU has no room for a single window; this case goes on on the processor, much slower")
            self.predictor.to_processor()
        else:
            raise MedsegError("out of GPU memory on a processor: a network refuses to leave the GPU; take --device cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        elif torch.backends.mps.is_available():
            torch.mps.empty_cache()
