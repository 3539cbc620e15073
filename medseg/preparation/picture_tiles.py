"""Tiles of large pictures: cut out of them, and their masks put together again."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from medseg.dataset.tiles import TiledPicture, TilesRecord, own_parts, starts, tile_name
from medseg.errors import SourceError
from medseg.files import written_whole
from medseg.io.picture.georeference import Tag, georeference_of, shifted
from medseg.io.picture.large_tiff import TILE, LargeTiff
from medseg.io.picture.reader import read_image2d
from medseg.io.picture.tiff import TIFF_SUFFIXES
from medseg.volume import Array

MASK_SUFFIXES = (*TIFF_SUFFIXES, ".png")


def tiffs_in(source: Path) -> dict[str, Path]:
    """Returns the TIFFs of a folder by their names without suffix; or one.

    Raises:
        SourceError: There is none, or two have one name.
    """
    if source.is_file():
        return {source.stem: source}
    found = sorted(path for path in source.glob("*") if path.suffix.lower() in TIFF_SUFFIXES and path.is_file())
    if not found:
        raise SourceError(f"{source}: holds no TIFF (.tif, .tiff)")
    names = {path.stem: path for path in found}
    if len(names) < len(found):
        raise SourceError(f"{source}: two of its files have one name; give each another")
    return names


def cut_picture(
    picture: LargeTiff, label_map: LargeTiff | None, folder: Path, size_and_overlap: tuple[int, int], *, labelled: bool
) -> Iterator[dict[str, str]]:
    """Writes the tiles of a picture; yields a row of cases.csv for each.

    Args:
        picture: What is cut.
        label_map: Of the picture.
        folder: Where ``images`` and ``labels`` come to lie.
        size_and_overlap: Of a tile, in pixels.
        labelled: Leave out tiles in which nothing is labelled.

    Raises:
        SourceError: Picture and label map are of different sizes, or damaged.
    """
    height, width, name_of_picture = picture.height, picture.width, picture.path.stem
    if label_map is not None and (label_map.height, label_map.width) != (height, width):
        raise SourceError(
            f"{label_map.path}: has {label_map.width}×{label_map.height} pixels, and {picture.path.name} has "
            f"{width}×{height}; a label map is as large as its image"
        )
    size, _ = size_and_overlap
    places = [georeference_of(each.path) if each else [] for each in (picture, label_map)]
    for row, column in product(starts(height, *size_and_overlap), starts(width, *size_and_overlap)):
        window = slice(row, min(row + size, height)), slice(column, min(column + size, width))
        drawn = None if label_map is None else label_map.window(*window)
        if labelled and drawn is not None and not drawn.any():
            continue
        name = tile_name(name_of_picture, row, column)
        cells = {"case_id": name, "image": f"images/{name}.tif", "group": name_of_picture}
        _write(folder / cells["image"], picture.window(*window), shifted(places[0], column, row))
        if drawn is not None:
            cells["label"] = f"labels/{name}.tif"
            _write(folder / cells["label"], drawn, shifted(places[1], column, row))
        yield cells


def joined_bands(masks: Path, picture: TiledPicture, record: TilesRecord) -> Iterator[Array]:
    """Yields the mask of a whole picture in bands of ``TILE`` rows, uint16, from the masks of its tiles.

    Two rows of tiles are in memory at most.

    Args:
        masks: The folder of the masks of tiles.
        picture: Whose they are.
        record: Size and overlap of tiles.

    Raises:
        SourceError: The mask of a tile is missing, cannot be read, or is of another size.
    """
    waiting = np.zeros((0, picture.width), np.uint16)
    for row, part in own_parts(picture.height, record.size, record.overlap):
        waiting = np.concatenate([waiting, _joined_row(masks, picture, record, row, part)])
        while len(waiting) >= TILE:
            yield waiting[:TILE]
            waiting = waiting[TILE:]
    if len(waiting):
        yield waiting


def _joined_row(masks: Path, picture: TiledPicture, record: TilesRecord, row: int, part: slice) -> Array:
    """Returns what one row of tiles gives to the mask of a picture, ``(row, column)``."""
    joined = np.zeros((part.stop - part.start, picture.width), np.uint16)
    shape = min(record.size, picture.height), min(record.size, picture.width)
    for column, own in own_parts(picture.width, record.size, record.overlap):
        path = mask_path(masks, tile_name(picture.name, row, column))
        mask = read_image2d(path).label_map[:, :, 0].T
        if mask.shape != shape:
            raise SourceError(f"{path}: has {mask.shape[1]}×{mask.shape[0]} pixels, its tile {shape[1]}×{shape[0]}")
        joined[:, own] = mask[part.start - row : part.stop - row, own.start - column : own.stop - column]
    return joined


def mask_path(masks: Path, name: str) -> Path:
    """Returns the mask of a tile.

    Raises:
        SourceError: There is none.
    """
    for suffix in MASK_SUFFIXES:
        if (masks / f"{name}{suffix}").is_file():
            return masks / f"{name}{suffix}"
    raise SourceError(f"{masks}: has no mask of the tile '{name}'; predict all tiles first")


def _write(path: Path, pixels: Array, georeference: list[Tag]) -> None:
    from tifffile import imwrite  # takes long to import

    colour = pixels.ndim == 3 and pixels.shape[2] in (3, 4) and pixels.dtype.kind == "u"
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        imwrite(
            temporary, pixels, photometric="rgb" if colour else "minisblack", planarconfig="contig",
            compression="zlib", extratags=georeference,
        )  # fmt: skip
