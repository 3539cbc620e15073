"""Tiles of large pictures: where they lie, and tiles.json, which says it."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from medseg.dataset.layouts.file_names import safe
from medseg.errors import ConfigError
from medseg.records import PathInside, Record, read_record, write_record

TILES = "tiles.json"


class TiledPicture(Record):
    """A picture that was cut.

    Attributes:
        name: Of its file, without the suffix.
        height: Rows.
        width: Columns.
    """

    name: PathInside
    height: PositiveInt
    width: PositiveInt


class TilesRecord(Record):
    """The content of tiles.json.

    Attributes:
        size: Rows and columns of a tile; those of a smaller picture are as large as it is.
        overlap: Of neighbours, at least so many pixels.
        pictures: All that were cut.
    """

    format: Literal["medseg-tiles"] = "medseg-tiles"
    version: Literal[1] = 1
    medseg: str
    size: PositiveInt
    overlap: NonNegativeInt
    pictures: tuple[TiledPicture, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError("tiles overlap by all they have")
        return self


def read_tiles(folder: Path) -> TilesRecord:
    """Returns tiles.json of a folder.

    Raises:
        SourceError: There is none, or it is damaged.
    """
    return read_record(folder / TILES, TilesRecord, "give the folder that 'medseg tile' made")


def write_tiles_json(folder: Path, record: TilesRecord) -> Path:
    """Writes tiles.json, and returns its path."""
    return write_record(folder / TILES, record)


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Returns where tiles begin along an axis; the last one ends with the picture.

    Args:
        length: Pixels of the picture along this axis.
        size: Of a tile.
        overlap: Of neighbours, at least.

    Raises:
        ConfigError: They would overlap by all they have.

    Examples:
        >>> starts(1000, size=400, overlap=50)
        [0, 350, 600]
        >>> starts(300, size=400, overlap=50)
        [0]
    """
    if not 0 <= overlap < size:
        raise ConfigError(f"overlap {overlap}: has to be from 0 to {size - 1}, less than the size of a tile")
    last = max(length - size, 0)
    return [*range(0, last, size - overlap), last]


def own_parts(length: int, size: int, overlap: int) -> Iterator[tuple[int, slice]]:
    """Yields where each tile begins along an axis, and the part of the picture that is taken from it: up to the middle
    of what it shares with its neighbour.

    Args:
        length: As of ``starts``.
        size: As of ``starts``.
        overlap: As of ``starts``.

    Examples:
        >>> list(own_parts(1000, size=400, overlap=50))
        [(0, slice(0, 375, None)), (350, slice(375, 675, None)), (600, slice(675, 1000, None))]
    """
    begin = starts(length, size, overlap)
    borders = [0, *((after + before + size) // 2 for before, after in pairwise(begin)), length]
    for start, (first, end) in zip(begin, pairwise(borders), strict=True):
        yield start, slice(first, end)


def tile_name(picture: str, row: int, column: int) -> str:
    """Returns the name of a tile, without a suffix: that of its case too, so that its mask is found.

    Examples:
        >>> tile_name("slide 3", 1024, 0)
        'slide_3_y1024_x0'
    """
    return safe(f"{picture}_y{row}_x{column}")
