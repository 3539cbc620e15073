"""The windows of a prepared case: which of them the network has to see, and what stands for the others."""

from functools import cached_property

import torch

from medseg.config import InferenceConfig
from medseg.decoding import decoding_of, or_on_processor
from medseg.device import Device
from medseg.inferers.body import body_mask, even_air
from medseg.inferers.coarse_mask import CoarseMask
from medseg.inferers.memory_plan import MemoryPlan, usual_memory_plan
from medseg.inferers.predictor import Backend, Predictor
from medseg.inferers.stream import Stream
from medseg.inferers.windows import Layout
from medseg.plan import Grid, Plan
from medseg.volume import Shape3


class CaseStream(Stream):
    """The windows of one case.

    Args:
        predictor: Runs the network of a plan.
        image: (channel, x, y, z), float32, on the model grid.
        config: The overlap of windows, and how many the network sees at once.
        memory_plan: None where memory is no concern.
        body: Windows that don't touch it get what the network says of even air.
        region: Windows that don't touch it are background.
    """

    predictor: Predictor

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
        plan = predictor.plan
        layout = Layout.of(predictor.network, plan, (x, y, z), config)
        super().__init__(predictor, image, layout, memory_plan or usual_memory_plan(layout, plan, config))
        self.body, self.region = body, region
        self.grid = plan.grid
        self.decoding = decoding_of(plan)
        self._even: dict[tuple[float, ...], torch.Tensor] = {}

    @cached_property
    def air(self) -> tuple[float, ...]:
        """The value of each channel of a window of nothing but air."""
        return even_air(self.image, self.grid)

    def labels(self) -> torch.Tensor:
        """Returns network labels (x, y, z), uint8, of the whole image."""
        parts = [or_on_processor(lambda x: self.decoding.labels(x, -1), slab.fresh).cpu() for slab in self.slabs()]
        return torch.cat(parts, self.layout.axis)

    def _predicted(self, windows: torch.Tensor) -> torch.Tensor:
        return self.predictor(windows, self.sums.as_summed)

    def known(self, start: Shape3, image: torch.Tensor) -> torch.Tensor | None:
        """Returns the logits of a window that the network need not see.

        Args:
            start: The first voxel of the window in the padded image.
            image: The padded image, ``(channel, x, y, z)``.

        Returns:
            ``(label, x, y, z)``; None where the network has to see the window.
        """
        place = self.layout.place(start)
        if self.region is not None and not self.region.touches(place):
            return self._background()
        if self.body is not None and not self.body.touches(place):
            return self.logits_of_value(self.air)
        value = _constant(image[self.layout.seen(start)])
        return None if value is None else self.logits_of_value(value)

    def logits_of_value(self, value: tuple[float, ...]) -> torch.Tensor:
        """Returns the logits ``(label, x, y, z)`` of a window of one value a channel.

        Those of air, and of one other, are kept.
        """
        if value not in self._even:
            self._even = {kept: logits for kept, logits in self._even.items() if kept == self.air}
            shape = [n + 2 * margin for n, margin in zip(self.layout.patch_size, self.layout.margin, strict=True)]
            window = torch.tensor(value)[:, None, None, None].expand(-1, *shape)
            self._even[value] = self.logits([window])[0]
            self.asked += 1
        return self._even[value]

    def _background(self) -> torch.Tensor:
        """Returns logits that say background.

        What the network says of air is not used here: one that has seen air only beside a body may find structures in a
        window of nothing else.
        """
        n_outputs, *patch = self.logits_of_value(self.air).shape
        # To the sums before it is expanded: it would be copied there voxel by voxel.
        nothing = self.decoding.nothing(n_outputs).to(self.sums.device)
        return nothing[:, None, None, None].expand(-1, *patch)


def predict_logits(
    network: Backend,
    image: torch.Tensor,
    plan: Plan,
    config: InferenceConfig,
    device: Device,
    memory_plan: MemoryPlan | None = None,
) -> torch.Tensor:
    """Returns the logits of a whole image, all of them in memory.

    Args:
        network: What takes windows, and gives their logits.
        image: ``(channel, x, y, z)`` on the model grid.
        plan: The plan with which the network was trained.
        config: The settings of prediction.
        device: Where the network lies.
        memory_plan: How many windows are predicted at a time; None: as many as fill a batch.

    Returns:
        ``(label, x, y, z)``.
    """
    stream = CaseStream(Predictor(network, plan, device), image, config, memory_plan)
    parts = [slab.fresh.clone() for slab in stream.slabs()]
    return torch.cat(parts, stream.layout.axis).permute(3, 0, 1, 2)


def predict_labels(
    network: Backend, image: torch.Tensor, plan: Plan, config: InferenceConfig, device: Device
) -> torch.Tensor:
    """Returns the network labels of an image; air is skipped.

    Args:
        network: What takes windows, and gives their logits.
        image: ``(channel, x, y, z)`` on the model grid.
        plan: The plan with which the network was trained.
        config: The settings of prediction.
        device: Where the network lies.

    Returns:
        ``(x, y, z)``, uint8.
    """
    predictor = Predictor(network, plan, device)
    return CaseStream(predictor, image, config, body=body_of(image, plan.grid, config)).labels()


def body_of(image: torch.Tensor, grid: Grid, config: InferenceConfig) -> CoarseMask | None:
    """Returns the body, or None where no air is to be skipped, or can be told."""
    return body_mask(image, grid) if config.skip_air else None


def _constant(window: torch.Tensor) -> tuple[float, ...] | None:
    """Returns the value of each channel, where it has but one; else None.

    The network is asked only once what it says of such windows: CT is clipped, so that much of the air around a patient
    is of one value.
    """
    values = window[:, 0, 0, 0]
    if bool((window == values[:, None, None, None]).all()):
        return tuple(values.tolist())
    return None
