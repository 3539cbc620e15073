"""medseg tile, medseg join-tiles."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.progress import say


def tile(
    images: Annotated[Path, typer.Argument(help="A TIFF, or a folder of TIFFs, of any size.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder for the tiles.")],
    labels: Annotated[
        Path | None, typer.Option(help="A label map for each image: TIFFs of the same names, or one TIFF.")
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Rows and columns of a tile.")] = 1024,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbours have in common, at least.")] = 64,
    labelled: Annotated[bool, typer.Option("--labelled", help="Leave out tiles in which nothing is labelled.")] = False,
) -> None:
    """Cuts pictures that are too large for the memory into tiles, which preprocess and predict take.

    Slides and aerial images may be larger than the memory, where they are stored as tiled TIFF. Tiles of one picture
    are never on both sides of a split. Tiles of a GeoTIFF lie on Earth where they belong.

    Example:

        medseg tile slides -o tiles --labels annotations

        medseg tile new_slides -o new_tiles
    """
    from medseg.workflows.tile import tile as do

    do(images, output, labels=labels, size=size, overlap=overlap, labelled=labelled)


def join_tiles(
    masks: Annotated[Path, typer.Argument(help="The folder of masks that 'medseg predict' wrote, of tiles.")],
    tiles: Annotated[Path, typer.Argument(help="The folder that 'medseg tile' made.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder of the masks of whole pictures.")],
) -> None:
    """Puts the masks of tiles together: a tiled TIFF for each picture, with the georeference of a GeoTIFF.

    Example:

        medseg predict run new_tiles -o tile_masks

        medseg join-tiles tile_masks new_tiles -o masks
    """
    from medseg.workflows.tile import join_tiles as do

    say(f"Written: {', '.join(map(str, do(masks, output, tiles=tiles)))}")
