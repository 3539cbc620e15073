"""The work on a case that is predicted block by block: a folder beside the masks, until all blocks are there.

It holds ``plan.json``, what all blocks need to know; ``blocks/N.json``, a file for each block that is done; and the
label map so far. A call that was killed goes on with the blocks that are missing.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from medseg.errors import SourceError
from medseg.evaluation.predictions_json import Stamp
from medseg.records import Record, read_record, write_record
from medseg.transforms.value_statistics import ImageStatistics, boxes_of
from medseg.volume import Box, Shape3

FOLDER = ".blocks"  # in the output
PLAN, BLOCKS, STORE, BODY = "plan.json", "blocks", "labels.ome.zarr", "body.npy"
ADVICE = "remove the folder"

Edges = tuple[PositiveInt, PositiveInt, PositiveInt]


class BlockPlan(Record):
    """What all blocks of a case need to know, and what tells whether an earlier call asked for the same.

    Attributes:
        medseg: The version.
        model: The SHA-256 of weights and settings.
        images: What tells whether the image changed.
        shape: Of the image, ``(x, y, z)``.
        edges: Of a block, in voxels of the image.
        batch_size: Windows that the network gets at a time.
        statistics: Of the values of the image.
        has_body: Whether there is a mask of the body, beyond which the network is not asked.
    """

    medseg: str
    model: str
    images: tuple[Stamp, ...]
    shape: Edges
    edges: Edges
    batch_size: PositiveInt
    statistics: ImageStatistics
    has_body: bool = False


class BlockRecord(Record):
    """What became of one block.

    Attributes:
        number: Of the block, from 0.
        voxels: How many voxels each network value has, from 0 on.
        boxes: Where each network value lies in the image, from 1 on: first voxels and those behind the last; None where
            it has no voxel.
        confidence: What ``Confidence`` summed.
        windows: That touch the block.
        asked: Of them, those that the network saw.
        different: Voxels that were read back as others than they were written.
        network_seconds: Until all windows were answered.
        seconds: Of all the work on it.
        peak_memory_mb: While it was under way.
    """

    number: NonNegativeInt
    voxels: tuple[int, ...]
    boxes: tuple[tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None, ...]
    confidence: list[list[float]]
    windows: int
    asked: int
    different: int
    network_seconds: float
    seconds: float
    peak_memory_mb: float


@dataclass(frozen=True)
class BlockWork:
    """The folder of a case's blocks."""

    folder: Path

    @property
    def store(self) -> Path:
        """The folder of the label map, an OME-Zarr."""
        return self.folder / STORE

    @property
    def body(self) -> Path:
        """The file with the mask of the body."""
        return self.folder / BODY

    def plan(self) -> BlockPlan | None:
        """Returns the plan of an earlier call; None where there is none that can be read."""
        try:
            return read_record(self.folder / PLAN, BlockPlan, ADVICE) if (self.folder / PLAN).is_file() else None
        except SourceError:
            return None

    def write_plan(self, plan: BlockPlan) -> None:
        """Writes the plan, after all else that blocks need.

        Raises:
            OutputError: It cannot be written.
        """
        write_record(self.folder / PLAN, plan)

    def record(self, number: int) -> BlockRecord | None:
        """Returns what became of a block; None where it is not done."""
        try:
            return read_record(self._file(number), BlockRecord, ADVICE) if self._file(number).is_file() else None
        except SourceError:
            return None

    def write(self, record: BlockRecord) -> None:
        """Writes that a block is done, once its labels are on disk.

        Raises:
            OutputError: It cannot be written.
        """
        write_record(self._file(record.number), record)

    def _file(self, number: int) -> Path:
        return self.folder / BLOCKS / f"{number}.json"


def blocks_of(plan: BlockPlan) -> list[Box]:
    """Returns the blocks of an image, by number."""
    return boxes_of(plan.shape, plan.edges)


def places_of(plan: BlockPlan) -> list[Shape3]:
    """Returns of each block, by number, how many lie before it along each axis."""
    x, y, z = plan.edges
    return [(a.start // x, b.start // y, c.start // z) for a, b, c in blocks_of(plan)]
