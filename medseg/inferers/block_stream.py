"""The windows that decide a box of the model grid: those of the whole image, and no others.

So each voxel is the mean of the same windows, in the same order, whether the image is predicted as a whole or in boxes.
What lies between two boxes is seen by the network once for each.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from medseg.decoding import decoding_of
from medseg.inferers.accumulator import Slab
from medseg.inferers.case_stream import CaseStream
from medseg.inferers.coarse_mask import CoarseMask
from medseg.inferers.memory_plan import MemoryPlan
from medseg.inferers.predictor import Predictor
from medseg.inferers.stream import Stream
from medseg.inferers.windows import Layout, mirrored_index
from medseg.volume import Box, Shape3

BoxReader = Callable[[Box], torch.Tensor]  # the prepared image (channel, x, y, z) of a box of the model grid


@dataclass(frozen=True)
class BlockLayout(Layout):
    """The windows of a whole image that touch a box of it; their places are counted from the first of them.

    ``shape`` is that of all voxels which these windows cover, the added ones among them.
    """

    whole: Layout | None = None
    starts: tuple[tuple[int, ...], ...] = ()  # along each axis, in voxels of the whole padded image

    @classmethod
    def around(cls, whole: Layout, box: Box) -> "BlockLayout":
        """Returns the windows that touch a box.

        Args:
            whole: All windows of the image.
            box: In voxels of the image.
        """
        starts = []
        for axis, part in enumerate(box):
            low, high = part.start + whole.before[axis], part.stop + whole.before[axis]
            n = whole.patch_size[axis]
            starts.append(tuple(start for start in whole.starts_along(axis) if start < high and start + n > low))
        x, y, z = (each[-1] + n - each[0] for each, n in zip(starts, whole.patch_size, strict=True))
        known = {name: getattr(whole, name) for name in Layout.__dataclass_fields__}
        return cls(**{**known, "shape": (x, y, z)}, whole=whole, starts=tuple(starts))

    @property
    def of_whole(self) -> Layout:
        """All windows of the image."""
        if self.whole is None:
            raise ValueError("a layout of a box is made by BlockLayout.around")
        return self.whole

    @property
    def axis(self) -> int:
        """The axis along which the windows advance, as in the whole image."""
        return self.of_whole.axis

    @property
    def first(self) -> Shape3:
        """The voxel of the image that lies at the first one of the windows; negative where voxels were added."""
        x, y, z = (each[0] - before for each, before in zip(self.starts, self.of_whole.before, strict=True))
        return x, y, z

    def starts_along(self, axis: int) -> list[int]:
        """Returns the first voxels of windows along an axis."""
        return [start - self.starts[axis][0] for start in self.starts[axis]]

    def pad(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the image as it is: ``seen_image`` has what was added."""
        return image

    def place(self, start: Shape3) -> tuple[slice, ...]:
        """Returns where in the whole image the window lies that the network sees."""
        x, y, z = (a + each[0] for a, each in zip(start, self.starts, strict=True))
        return self.of_whole.place((x, y, z))

    def seen_image(self, read: BoxReader) -> torch.Tensor:
        """Returns what the network sees of the image ``(channel, x, y, z)``, with what is added at its ends.

        Args:
            read: Reads boxes of the image.
        """
        whole, index, parts, added = self.of_whole, [], [], []
        for axis, (n, m) in enumerate(zip(whole.shape, whole.margin, strict=True)):
            first, stop = self.first[axis] - m, self.first[axis] + self.shape[axis] + m
            if any(whole.margin):
                places = mirrored_index(torch.arange(first, stop), n)
                parts.append(slice(int(places.min()), int(places.max()) + 1))
                index.append(places - parts[-1].start)
            else:
                parts.append(slice(max(first, 0), min(stop, n)))
                added.append((max(-first, 0), max(stop - n, 0)))
        image = read((parts[0], parts[1], parts[2]))
        for dim, each in enumerate(index, start=1):
            image = image.index_select(dim, each)
        ends = [end for pair in reversed(added) for end in pair]
        if not any(ends):
            return image
        if whole.padding_mode == "constant":
            return functional.pad(image, ends, value=whole.padding_value)
        return functional.pad(image[None], ends, mode=whole.padding_mode)[0]


class BlockStream(CaseStream):
    """The windows that decide a box of a case.

    Args:
        predictor: Runs the network of a plan.
        read: Reads boxes of the prepared image.
        layout: The windows.
        memory_plan: How many windows are seen at once.
        body: Windows that don't touch it get what the network says of even air.
    """

    def __init__(
        self,
        predictor: Predictor,
        read: BoxReader,
        layout: BlockLayout,
        memory_plan: MemoryPlan,
        body: CoarseMask | None = None,
    ) -> None:
        Stream.__init__(self, predictor, layout.seen_image(read), layout, memory_plan)
        self.body, self.region = body, None
        self.grid = predictor.plan.grid
        self.decoding = decoding_of(predictor.plan)
        self._even = {}


def within(slab: Slab, first: Shape3, box: Box) -> Slab | None:
    """Returns the part of a slab that lies in a box, counted from the first voxel of the box; None where none does.

    Args:
        slab: Of logits.
        first: The voxel of the image at which slabs are counted from.
        box: In voxels of the image.
    """
    logits, axis = slab.logits, slab.axis
    for other in range(3):
        if other != axis:
            part = box[other]
            logits = logits.narrow(other, part.start - first[other], part.stop - part.start)
    start, stop = slab.start + first[axis], slab.stop + first[axis]
    low, high = max(start, box[axis].start), min(stop, box[axis].stop)
    repeated = max(0, start + slab.repeated - low)
    if high - low <= repeated:
        return None
    logits = logits.narrow(axis, low - start, high - low)
    return replace(slab, logits=logits, start=low - box[axis].start, stop=high - box[axis].start, repeated=repeated)
