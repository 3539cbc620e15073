"""Sliding-window prediction in bounded memory: windows in rows, and slabs of finished logits that leave between them.

The logits are those of MONAI's ``sliding_window_inference`` with Gaussian weights, for any number of labels without
room for more than a row of windows of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from medseg.config import InferenceConfig
from medseg.decoding import decoding_of
from medseg.device import Device
from medseg.errors import MedsegError
from medseg.inference.accumulator import Accumulator, Slab
from medseg.inference.confidence import Confidence
from medseg.inference.predictor import Backend, Predictor
from medseg.inference.room import Room, usual_room
from medseg.inference.windows import Layout, Row
from medseg.plan import Plan
from medseg.preprocessing.pipeline import Prepared
from medseg.preprocessing.restoring import Observer, Restoring
from medseg.progress import warn
from medseg.volume import Array, Shape3

Result = TypeVar("Result")

PROCESSOR = torch.device("cpu")


def segment(
    network: Backend,
    prepared: Prepared,
    plan: Plan,
    config: InferenceConfig,
    device: Device,
    mirror_axes: Sequence[int] = (),
    room: Room | None = None,
    observers: Sequence[Observer] = (),
    confidence: Confidence | None = None,
) -> Array:
    """Network labels (x, y, z, uint8) of a prepared case on the grid of its source.

    ``observers`` see each part of the label map when it is finished, with its logits if they ask for them;
    ``confidence`` sees the logits on the model grid.
    """
    stream = Stream(network, prepared.image, plan, config, device, mirror_axes, room)
    axis, decoding = stream.layout.axis, decoding_of(plan)
    restoring = Restoring(prepared.geometry, prepared.source, plan.grid.orientation, axis, observers, decoding)
    for slab in stream.slabs():
        if confidence is not None:
            confidence.take(slab)
        restoring.take(slab.logits, slab.start)
        del slab  # before the next row is predicted
    return restoring.label_map


class Stream:
    """The windows of one case: ``image`` (channel, x, y, z) float32 on the model grid.

    When the GPU's memory runs out, the batch of windows is halved; when one window at a time is still too much, the
    sums move to main memory, then the network to the processor. Nothing that was summed is lost.
    """

    def __init__(
        self,
        network: Backend,
        image: torch.Tensor,
        plan: Plan,
        config: InferenceConfig,
        device: Device,
        mirror_axes: Sequence[int] = (),
        room: Room | None = None,
    ) -> None:
        x, y, z = image.shape[1:]
        layout = Layout.of(network, plan, (x, y, z), config.overlap)
        room = room or usual_room(layout, plan, config)
        self.layout = replace(layout, rows_at_once=room.rows_at_once)
        self.image = image
        self.batch_size = room.batch_size
        self.predictor = Predictor(network, plan, device, mirror_axes)
        where = device.torch_device if room.sums_on_device else PROCESSOR
        self.sums = Accumulator(self.layout, room.dtype, where)
        self._blank: dict[tuple[float, ...], torch.Tensor] = {}

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

    def _predict(self, row: Row, image: torch.Tensor) -> None:
        windows = {start: image[self.layout.seen(start)] for start in row.windows}
        blank = {start: value for start, window in windows.items() if (value := _constant(window)) is not None}
        for start, value in blank.items():
            if value not in self._blank:
                self._blank = {value: self._logits([windows[start]])[0]}
            self._add(row, self._blank[value], start)
        starts = [start for start in windows if start not in blank]
        while starts:
            for logits in self._logits([windows[start] for start in starts]):
                self._add(row, logits, starts.pop(0))

    def _logits(self, windows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of as many windows, from the first on, as there is room for: (window, label, x, y, z)."""
        return self._with_room(lambda: self.predictor(torch.stack(list(windows[: self.batch_size]))))

    def _add(self, row: Row, logits: torch.Tensor, start: Shape3) -> None:
        self._with_room(lambda: self.sums.open(row, len(logits)))
        # On the GPU nothing is allocated while it is added, so that no window is ever added in part.
        self.sums.add(self._with_room(lambda: self._at_sums(logits)), start)

    def _at_sums(self, logits: torch.Tensor) -> torch.Tensor:
        device = self.sums.device
        return logits.to(device, torch.float32 if device.type == "cuda" else None)

    def _with_room(self, function: Callable[[], Result]) -> Result:
        while True:
            try:
                return function()
            except torch.cuda.OutOfMemoryError:
                self._make_room()

    def _make_room(self) -> None:
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
    room: Room | None = None,
) -> torch.Tensor:
    """Logits (label, x, y, z) of a whole ``image`` (channel, x, y, z), all of them in memory."""
    stream = Stream(network, image, plan, config, device, mirror_axes, room)
    parts = [slab.fresh.clone() for slab in stream.slabs()]
    return torch.cat(parts, stream.layout.axis).permute(3, 0, 1, 2)


def predict_labels(
    network: Backend, image: torch.Tensor, plan: Plan, config: InferenceConfig, device: Device
) -> torch.Tensor:
    """Network labels (x, y, z, uint8) of ``image`` (channel, x, y, z) on the model grid."""
    stream = Stream(network, image, plan, config, device)
    decoding = decoding_of(plan)
    parts = [decoding.labels(slab.fresh, -1).cpu() for slab in stream.slabs()]
    return torch.cat(parts, stream.layout.axis)


def _constant(window: torch.Tensor) -> tuple[float, ...] | None:
    """The value of each channel, where it has but one. The network is asked only once what it says of such windows:
    CT is clipped, so that much of the air around a patient is of one value."""
    values = window[:, 0, 0, 0]
    if bool((window == values[:, None, None, None]).all()):
        return tuple(values.tolist())
    return None
