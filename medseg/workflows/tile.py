"""tile: large pictures become tiles that fit in memory; join_tiles: masks of tiles become masks of the pictures."""

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from medseg.dataset.tiles import TiledPicture, TilesRecord, read_tiles, starts, tile_name, write_tiles_json
from medseg.errors import SourceError
from medseg.files import ensure_folder, folder_written_whole
from medseg.io.picture.georeference import georeference_of
from medseg.io.picture.large_tiff import opened_large_tiff, write_tiles
from medseg.preparation.picture_tiles import cut_picture, joined_bands, mask_path, tiffs_in
from medseg.progress import counted, say, track
from medseg.table import write_table
from medseg.version import VERSION


@dataclass(frozen=True)
class TileResult:
    """Tiles of pictures.

    Attributes:
        folder: Where they lie: ``images``, ``labels`` where there are some, cases.csv and tiles.json.
        tiles: How many there are.
    """

    folder: Path
    tiles: int


def tile(
    images: str | Path,
    output: str | Path,
    *,
    labels: str | Path | None = None,
    size: int = 1024,
    overlap: int = 64,
    labelled: bool = False,
) -> TileResult:
    """Cuts TIFFs that are too large for the memory into tiles, which ``preprocess`` and ``predict`` take.

    A few rows of tiles are in memory at a time, whatever the size of the pictures, where these are stored in tiles or
    strips. Tiles of one picture are one group: they are never on both sides of a split. Each lies on Earth where its
    part of a GeoTIFF lies.

    Args:
        images: A TIFF, or a folder of them.
        output: A new folder.
        labels: A label map for each image, as a TIFF of the same name, or a folder of these. A dataset.json beside them
            goes with the tiles.
        size: Rows and columns of a tile.
        overlap: Pixels that neighbours have in common, at least.
        labelled: Leave out tiles in which nothing is labelled.

    Raises:
        SourceError: A file cannot be read, an image has no label map, or one of another size.
        ConfigError: Tiles would overlap by all they have.
        OutputError: ``output`` is there already, or cannot be written.

    Examples:
        >>> import medseg
        >>> medseg.tile("slides", "tiles", labels="annotations", size=1024)  # doctest: +SKIP
    """
    pictures = tiffs_in(Path(images))
    drawn = {} if labels is None else tiffs_in(Path(labels))
    if len(pictures) == len(drawn) == 1:
        drawn = dict(zip(pictures, drawn.values(), strict=True))
    if labels is not None and (alone := sorted(pictures.keys() ^ drawn.keys())):
        raise SourceError(f"{labels}: '{alone[0]}' has an image or a label map only; name both alike")
    if len({tile_name(name, 0, 0) for name in pictures}) < len(pictures):
        raise SourceError(f"{images}: names of two pictures differ in blanks or signs alone; rename one of them")
    starts(size, size, overlap)  # refuses what cannot be
    rows: list[dict[str, str]] = []
    tiled = []
    with folder_written_whole(Path(output)) as folder:
        for name, path in track(pictures.items(), "Cutting", len(pictures)):
            with (
                opened_large_tiff(path) as picture,
                nullcontext() if name not in drawn else opened_large_tiff(drawn[name]) as label_map,
            ):
                tiled.append(TiledPicture(name=name, height=picture.height, width=picture.width))
                rows += cut_picture(picture, label_map, folder, (size, overlap), labelled=labelled)
        columns = ["case_id", "image", "label", "group"] if drawn else ["case_id", "image", "group"]
        write_table(folder / "cases.csv", columns, rows)
        names = Path(labels or images).parent / "dataset.json"
        if names.is_file():
            shutil.copyfile(names, folder / "dataset.json")
        write_tiles_json(folder, TilesRecord(medseg=VERSION, size=size, overlap=overlap, pictures=tuple(tiled)))
    say(f"{counted(len(rows), 'tile')} of {counted(len(tiled), 'picture')} in {output}")
    return TileResult(Path(output), len(rows))


def join_tiles(masks: str | Path, output: str | Path, *, tiles: str | Path) -> list[Path]:
    """Puts the masks of tiles together: a tiled, compressed TIFF for each picture, with its georeference.

    Of what two tiles have in common, each gives the half on its side.

    Args:
        masks: The folder that ``predict`` wrote, from ``tiles``.
        output: The folder of the masks of whole pictures.
        tiles: The folder that ``tile`` made.

    Returns:
        The masks.

    Raises:
        SourceError: The mask of a tile is missing, cannot be read, or is of another size.
        OutputError: A file cannot be written.

    Examples:
        >>> import medseg
        >>> medseg.join_tiles("tile_masks", "masks", tiles="tiles")  # doctest: +SKIP
    """
    record, folder = read_tiles(Path(tiles)), ensure_folder(Path(output))
    written = []
    for picture in track(record.pictures, "Joining", len(record.pictures)):
        path = folder / f"{picture.name}.tif"
        first = mask_path(Path(masks), tile_name(picture.name, 0, 0))
        bands = joined_bands(Path(masks), picture, record)
        write_tiles(path, bands, (picture.height, picture.width), georeference_of(first))
        written.append(path)
    return written
