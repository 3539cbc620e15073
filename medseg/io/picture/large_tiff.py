"""TIFFs that are larger than memory: read window by window, and written tile by tile."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import SourceError, reading
from medseg.files import written_whole
from medseg.io.picture.exif import UPRIGHT
from medseg.io.picture.georeference import Tag
from medseg.io.picture.tiff import only_series, orientation_of_series
from medseg.volume import Array

if TYPE_CHECKING:  # takes long to import
    from tifffile import TiffPage

LARGEST_PART = 2**28  # bytes of a tile or strip that is decoded at once
TILE = 512  # pixels of an edge, of those that are written
CLASSIC = 2**32 - 2**25  # bytes that a TIFF of 32-bit offsets can hold
SAVE_TILED = "save it as a tiled TIFF whose samples lie together (gdal_translate -co TILED=YES -co INTERLEAVE=PIXEL)"


class LargeTiff:
    """A picture in a TIFF of one page, of which windows are read.

    Attributes:
        path: The file.
        height: Rows.
        width: Columns.
        page: tifffile's.
    """

    def __init__(self, path: Path, page: "TiffPage") -> None:
        self.path, self.page = path, page
        self.height, self.width = int(page.imagelength), int(page.imagewidth)

    def window(self, rows: slice, columns: slice) -> Array:
        """Returns a part of the picture, ``(row, column)`` or ``(row, column, sample)``.

        Args:
            rows: From 0, inside of the picture.
            columns: Likewise.

        Raises:
            SourceError: It is damaged.
        """
        page, stream = self.page, self.page.parent.filehandle
        high, wide = page.chunks[:2]
        across = page.chunked[1] if page.is_tiled else 1
        part: Array = np.empty((rows.stop - rows.start, columns.stop - columns.start, *page.shape[2:]), page.dtype)
        with reading(self.path, "an image"):
            for i in range(rows.start // high, -(-rows.stop // high)):
                for j in range(columns.start // wide, -(-columns.stop // wide)):
                    number = i * across + j
                    stream.seek(page.dataoffsets[number])
                    data = stream.read(page.databytecounts[number])
                    decoded = page.decode(data, number, jpegtables=page.jpegtables)[0]
                    if decoded is None:
                        raise ValueError("parts of its pixels are not there")
                    tile = decoded[0].reshape(*decoded.shape[1:3], *page.shape[2:])
                    _lay(part, tile, i * high - rows.start, j * wide - columns.start)
        return part


@contextmanager
def opened_large_tiff(path: Path) -> Iterator[LargeTiff]:
    """Opens a TIFF, of which no more than windows is read.

    Raises:
        SourceError: It is damaged, has several pages, is stored turned, or in parts too large to be read one by one.
    """
    from tifffile import PLANARCONFIG, TiffFile  # takes long to import

    with reading(path, "an image"):
        tiff = TiffFile(path)
    with tiff:
        with reading(path, "an image"):
            series = only_series(path, tiff, whole=False)
            page = series.keyframe
            if len(series.pages) != 1 or series.ndim > 3:
                raise SourceError(f"{path}: has several pages; give each picture in a file of its own")
            if orientation_of_series(series) != UPRIGHT:
                raise SourceError(f"{path}: is stored turned (its Orientation is not 1); store it upright")
            if page.samplesperpixel > 1 and page.planarconfig != PLANARCONFIG.CONTIG:
                raise SourceError(f"{path}: has its samples in planes; {SAVE_TILED}")
            if page.dtype is None or int(np.prod(page.chunks)) * page.dtype.itemsize > LARGEST_PART:
                raise SourceError(f"{path}: is stored in parts of {page.chunks} pixels; {SAVE_TILED}")
        yield LargeTiff(path, page)


def write_tiles(path: Path, rows: Iterator[Array], shape: Sequence[int], georeference: Sequence[Tag] = ()) -> None:
    """Writes a label map as a tiled, compressed TIFF, while its rows come.

    Args:
        path: The file; it appears whole or not at all.
        rows: Bands of up to ``TILE`` rows each, ``(row, column)``, uint8 or uint16; all but the last have as many.
        shape: Rows and columns of the whole.
        georeference: Tags that say where on Earth it lies.

    Raises:
        OutputError: It cannot be written.
    """
    from tifffile import TiffWriter  # takes long to import

    first = next(rows)

    def tiles() -> Iterator[Array]:
        for band in chain((first,), rows):
            yield from _tiles_of(band)

    n_bytes = int(np.prod(shape)) * first.dtype.itemsize
    with written_whole(path) as temporary, TiffWriter(temporary, bigtiff=n_bytes > CLASSIC) as writer:
        writer.write(
            tiles(), shape=tuple(shape), dtype=first.dtype, tile=(TILE, TILE), photometric="minisblack",
            compression="zlib", extratags=list(georeference),
        )  # fmt: skip


def _tiles_of(band: Array) -> Iterator[Array]:
    for start in range(0, band.shape[1], TILE):
        tile = band[:, start : start + TILE]
        yield np.pad(tile, ((0, TILE - tile.shape[0]), (0, TILE - tile.shape[1])))


def _lay(part: Array, tile: Array, row: int, column: int) -> None:
    """Lays a tile on a part of a picture, of which it may cover a piece, beginning at a row and a column that may be
    outside."""
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + tile.shape[0], part.shape[0]), min(column + tile.shape[1], part.shape[1])
    part[top:bottom, left:right] = tile[top - row : bottom - row, left - column : right - column]
