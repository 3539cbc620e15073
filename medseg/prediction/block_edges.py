"""How large blocks may be: by memory, and so that all workers get some."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from medseg.config import InferenceConfig
from medseg.errors import ConfigError
from medseg.inferers.memory_plan import DECODING_BYTES, SAFETY, MemoryPlan, in_units, usual_memory_plan
from medseg.inferers.model import Model
from medseg.inferers.windows import Layout
from medseg.transforms.block_preparation import VOXELS_OF_TILE
from medseg.volume import Geometry, Shape3

# Of blocks on the model grid. What lies between two blocks is predicted twice, so larger ones are faster.
LARGEST, SMALLEST = 1024, 64
CHUNK = 64  # blocks end where chunks of the label map do
# In bytes a voxel: of the source, as it is read, as float32 and normalized; of the model grid, resampled axis by axis.
SOURCE_BYTES, MODEL_BYTES = 20, 8
LABEL_BYTES = 4  # a voxel of the block: network labels, values, and what is packed of them
SOURCE_VOXELS = 2 * VOXELS_OF_TILE  # with what lies around a tile


@dataclass(frozen=True)
class BlockDemand:
    """What a block asks for.

    Attributes:
        layout: All windows of the case.
        source: The grid of the image.
        model_edges: How many voxels of the model grid lie in one of the source, along the axes of the source.
        axes: The axis of the model grid that each axis of the source is.
        channels: Of the image.
        outputs: Of the network.
        window: Bytes of the network for one window.
        before: Bytes taken already.
    """

    layout: Layout
    source: Geometry
    model_edges: tuple[float, float, float]
    axes: tuple[int, int, int]
    channels: int
    outputs: int
    window: int
    before: int

    def forecast(self, edges: Shape3, memory_plan: MemoryPlan) -> int:
        """Returns the peak of a worker in bytes.

        Args:
            edges: Of a block, in voxels of the source.
            memory_plan: How many windows are seen at once.
        """
        seen = [1, 1, 1]
        for edge, ratio, n, axis in zip(edges, self.model_edges, self.source.shape, self.axes, strict=True):
            patch, margin = self.layout.patch_size[axis], self.layout.margin[axis]
            seen[axis] = min(round(min(edge, n) * ratio) + 2 * patch, self.layout.padded_shape[axis]) + 2 * margin
        height = self.layout.patch_size[self.layout.axis] + 4
        sums = prod(seen) // seen[self.layout.axis] * min(height, seen[self.layout.axis] + 4)
        sums *= self.outputs * memory_plan.dtype.itemsize * 2 + 4  # a part of them is copied to be decoded
        image = self.channels * MODEL_BYTES * prod(seen)
        preparing = self.channels * SOURCE_BYTES * SOURCE_VOXELS + image
        kept = 2 * self.outputs * prod(self.layout.patch_size) * 4
        predicting = image + max(memory_plan.batch_size * self.window, DECODING_BYTES) + kept + sums
        return int(SAFETY * (max(preparing, predicting) + LABEL_BYTES * prod(edges))) + self.before

    def edges(self, limit: int | None, memory_plan: MemoryPlan, least_blocks: int = 1) -> tuple[Shape3, MemoryPlan]:
        """Returns the edges of blocks, in voxels of the source, and how many windows are seen at once.

        Args:
            limit: Bytes that a worker may take; None: those of blocks of 512.
            memory_plan: The one where memory is no concern.
            least_blocks: So many there should be, so that all workers get some.

        Raises:
            ConfigError: The smallest blocks take more.
        """
        plans = [replace(memory_plan, rows_at_once=1)]
        while plans[-1].batch_size > 1:
            plans.append(replace(plans[-1], batch_size=plans[-1].batch_size // 2))
        for edge in _ever_smaller():
            if limit is None and edge > LARGEST // 2:
                continue
            edges = self._of_source(edge)
            n_blocks = prod(-(-n // e) for n, e in zip(self.source.shape, edges, strict=True))
            if edge > 2 * SMALLEST and n_blocks < least_blocks:
                continue
            for each in plans:
                if limit is None or self.forecast(edges, each) <= limit:
                    return edges, each
        least = self.forecast(self._of_source(SMALLEST), plans[-1])
        raise ConfigError(
            f"--max-memory {in_units(limit or 0)}: is too little for a block of this case; the least that would do is "
            f"{in_units(least)}"
        )

    def _of_source(self, edge: int) -> Shape3:
        """Returns the edges of the source that are about as long as ``edge`` voxels of the model grid."""
        x, y, z = (max(CHUNK, round(edge / ratio / CHUNK) * CHUNK) for ratio in self.model_edges)
        return x, y, z


def demand_of(
    model: Model, config: InferenceConfig, grids: tuple[Geometry, Geometry], axes: Sequence[int], window: int
) -> tuple[BlockDemand, MemoryPlan]:
    """Returns what blocks of a case ask for, and the memory plan where that is no concern.

    Args:
        model: What predicts.
        config: The settings of windows.
        grids: Of the source, and of the model.
        axes: The axis of the model grid that each axis of the source is.
        window: Bytes of the network for one window.
    """
    (source, grid), plan = grids, model.record.plan
    layout = Layout.of(model.network, plan, grid.shape, config)
    x, y, z = (mm / grid.spacing[axis] for mm, axis in zip(source.spacing, axes, strict=True))
    demand = BlockDemand(
        layout=layout,
        source=source,
        model_edges=(x, y, z),
        axes=(axes[0], axes[1], axes[2]),
        channels=len(model.record.channels),
        outputs=len(model.record.outputs),
        window=window,
        before=int(model.device.memory_mb() * 2**20),
    )
    return demand, usual_memory_plan(layout, plan, config)


def _ever_smaller() -> Iterator[int]:
    edge = LARGEST
    while edge > SMALLEST:
        yield from (edge, edge * 3 // 4)
        edge //= 2
    yield SMALLEST
