"""Sliding-window prediction in bounded memory: windows in rows, and slabs of finished logits that leave between them.

The logits are those of MONAI's ``sliding_window_inference`` with Gaussian weights, for any number of labels without
room for more than a row of windows of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import torch

from medseg.config import InferenceConfig
from medseg.decoding import decoding_of
from medseg.device import Device
from medseg.errors import MedsegError
from medseg.inferers.accumulator import Accumulator, Slab
from medseg.inferers.body import body_mask, even_air
from medseg.inferers.coarse_mask import CoarseMask
from medseg.inferers.memory_plan import MemoryPlan, usual_memory_plan
from medseg.inferers.predictor import Backend, Predictor
from medseg.inferers.windows import Layout, Row
from medseg.plan import Grid, Plan
from medseg.progress import warn
from medseg.volume import Shape3

Result = TypeVar("Result")

PROCESSOR = torch.device("cpu")


class Stream:
    """The windows of one case: ``image`` (channel, x, y, z) float32 on the model grid.

    Windows outside of the ``region`` are background. Those without ``body`` get what the network says of even air.

    When the GPU's memory runs out, the batch of windows is halved; when one window at a time is still too much, the
    sums move to main memory, then the network to the processor. Nothing that was summed is lost.
    """

    def __init__(
        self,
        predictor: Predictor,
        image: torch.Tensor,
        config: InferenceConfig,
        memory_plan: MemoryPlan | None = None,
        body: CoarseMask | None = None,
        region: CoarseMask | None = None,
    ) -> None:
        x, y, z = image.shape[1:]
        plan, device = predictor.plan, predictor.device
        layout = Layout.of(predictor.network, plan, (x, y, z), config.overlap)
        memory_plan = memory_plan or usual_memory_plan(layout, plan, config)
        self.layout = replace(layout, rows_at_once=memory_plan.rows_at_once)
        self.image = image
        self.batch_size = memory_plan.batch_size
        self.predictor = predictor
        where = device.torch_device if memory_plan.sums_on_device else PROCESSOR
        self.sums = Accumulator(self.layout, memory_plan.dtype, where)
        self.body, self.region = body, region
        self.grid = plan.grid
        self.decoding = decoding_of(plan)
        self.asked = 0  # how many windows the network saw
        self._even: dict[tuple[float, ...], torch.Tensor] = {}

    @cached_property
    def air(self) -> tuple[float, ...]:
        """The value of each channel of a window of nothing but air."""
        return even_air(self.image, self.grid)

    def slabs(self) -> Iterator[Slab]:
        """Finished logits, from the first voxels along the layout's axis to the last."""
        image = self.layout.pad(self.image)
        rows = self.layout.rows()
        to_come = [row.start for row in rows[1:]] + [rows[-1].stop]
        for row, start in zip(rows, to_come, strict=True):
            with torch.inference_mode():
                self._predict(row, image)
                slabs = list(self.sums.finished(start))
            while slabs:
                yield slabs.pop(0)  # and hold it no longer

    def labels(self) -> torch.Tensor:
        """Network labels (x, y, z, uint8) of the whole image."""
        parts = [self.decoding.labels(slab.fresh, -1).cpu() for slab in self.slabs()]
        return torch.cat(parts, self.layout.axis)

    def _predict(self, row: Row, image: torch.Tensor) -> None:
        starts = []
        for start in row.windows:
            known = self._known(start, image)
            if known is None:
                starts.append(start)
            else:
                self._add(row, known, start)
        self.asked += len(starts)
        while starts:
            for logits in self._logits([image[self.layout.seen(start)] for start in starts]):
                self._add(row, logits, starts.pop(0))

    def _known(self, start: Shape3, image: torch.Tensor) -> torch.Tensor | None:
        """Logits (label, x, y, z) of a window that the network need not see."""
        place = self.layout.place(start)
        if self.region is not None and not self.region.touches(place):
            return self._background()
        if self.body is not None and not self.body.touches(place):
            return self.logits_of_value(self.air)
        value = _constant(image[self.layout.seen(start)])
        return None if value is None else self.logits_of_value(value)

    def _background(self) -> torch.Tensor:
        """What the network says of air is no answer here: one that has seen air only beside a body may find
        structures in a window of nothing else."""
        n_outputs, *patch = self.logits_of_value(self.air).shape
        return self.decoding.nothing(n_outputs)[:, None, None, None].expand(-1, *patch)

    def logits_of_value(self, value: tuple[float, ...]) -> torch.Tensor:
        """Logits (label, x, y, z) of a window of one value a channel. Those of air, and of one other, are kept."""
        if value not in self._even:
            self._even = {kept: logits for kept, logits in self._even.items() if kept == self.air}
            shape = [n + 2 * margin for n, margin in zip(self.layout.patch_size, self.layout.margin, strict=True)]
            window = torch.tensor(value)[:, None, None, None].expand(-1, *shape)
            self._even[value] = self._logits([window])[0]
            self.asked += 1
        return self._even[value]

    def _logits(self, windows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of as many windows, from the first on, as there is room for: (window, label, x, y, z)."""
        return self._or_with_less_memory(lambda: self.predictor(torch.stack(list(windows[: self.batch_size]))))

    def _add(self, row: Row, logits: torch.Tensor, start: Shape3) -> None:
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
            except torch.cuda.OutOfMemoryError:
                self._free_memory()

    def _free_memory(self) -> None:
        """Raises ``MedsegError`` when nothing is left to do."""
        if self.batch_size > 1:
            self.batch_size //= 2
        elif self.sums.device.type == "cuda":
            self.sums.move(PROCESSOR)
        elif self.predictor.device.is_cuda:
            warn("The GPU has no room for a single window; this case goes on on the processor, much slower")
            self.predictor.to_processor()
        else:
            raise MedsegError("out of GPU memory on a processor: a network refuses to leave the GPU; take --device cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def predict_logits(
    network: Backend,
    image: torch.Tensor,
    plan: Plan,
    config: InferenceConfig,
    device: Device,
    mirror_axes: Sequence[int] = (),
    memory_plan: MemoryPlan | None = None,
) -> torch.Tensor:
    """Logits (label, x, y, z) of a whole ``image`` (channel, x, y, z), all of them in memory."""
    stream = Stream(Predictor(network, plan, device, mirror_axes), image, config, memory_plan)
    parts = [slab.fresh.clone() for slab in stream.slabs()]
    return torch.cat(parts, stream.layout.axis).permute(3, 0, 1, 2)


def predict_labels(
    network: Backend, image: torch.Tensor, plan: Plan, config: InferenceConfig, device: Device
) -> torch.Tensor:
    """Network labels (x, y, z, uint8) of ``image`` (channel, x, y, z) on the model grid; air is skipped."""
    predictor = Predictor(network, plan, device)
    return Stream(predictor, image, config, body=body_of(image, plan.grid, config)).labels()


def body_of(image: torch.Tensor, grid: Grid, config: InferenceConfig) -> CoarseMask | None:
    """None where no air is to be skipped, or can be told."""
    return body_mask(image, grid) if config.skip_air else None


def _constant(window: torch.Tensor) -> tuple[float, ...] | None:
    """The value of each channel, where it has but one. The network is asked only once what it says of such windows:
    CT is clipped, so that much of the air around a patient is of one value."""
    values = window[:, 0, 0, 0]
    if bool((window == values[:, None, None, None]).all()):
        return tuple(values.tolist())
    return None
