"""Siemens' mosaics: all slices of a volume as tiles of one image."""

import math
import warnings
from typing import NamedTuple

import numpy as np
from pydicom import Dataset, dcmread

from medseg.errors import SourceError
from medseg.io.dicom.header import Header
from medseg.volume import Array

# Siemens' private tag in which nibabel finds the number of tiles and the normal of the slices.
CSA_HEADER = 0x00291010

# What a tile has of its own.
OF_MOSAIC = ("Rows", "Columns", "ImagePositionPatient")


class Mosaic(NamedTuple):
    """What Siemens' private header says of a mosaic: slices side by side in one image, in rows of ``n_across``.

    Attributes:
        n_tiles: How many slices there are.
        normal: The way from slice to slice, a unit vector in LPS.
    """

    n_tiles: int
    normal: tuple[float, float, float]

    @property
    def n_across(self) -> int:
        """The number of tiles in a row of the picture, which is the number of rows too."""
        return math.ceil(math.sqrt(self.n_tiles))


def is_mosaic(header: Header) -> bool:
    """Says whether the image of a file is a mosaic; enhanced objects are none."""
    return "MOSAIC" in header.text("ImageType").upper() and "PerFrameFunctionalGroupsSequence" not in header


def tiles_of(header: Header) -> list[Header]:
    """Returns a header for each tile of a mosaic.

    Raises:
        SourceError: The tiles cannot be told apart.
    """
    mosaic = _read_mosaic(header)
    edges = [header.whole(name) or 0 for name in ("Rows", "Columns")]
    if mosaic.n_tiles < 1 or any(edge < mosaic.n_across or edge % mosaic.n_across for edge in edges):
        raise SourceError(
            f"{header.path}: a Siemens mosaic of {mosaic.n_tiles} slices, which an image of {edges[1]}×{edges[0]} "
            "pixels cannot hold; export it again"
        )
    return [_tile(header, mosaic, i) for i in range(mosaic.n_tiles)]


def values_of_tiles(stored: Array, n_tiles: int) -> Array:
    """Returns the pixels of each tile, ``(slice, row, column)``.

    Args:
        stored: The mosaic, ``(row, column)``.
        n_tiles: How many slices there are in it.
    """
    across = math.ceil(math.sqrt(n_tiles))
    rows, columns = stored.shape[0] // across, stored.shape[1] // across
    tiles = stored.reshape(across, rows, across, columns).swapaxes(1, 2)
    return tiles.reshape(-1, rows, columns)[:n_tiles]


def _read_mosaic(header: Header) -> Mosaic:
    """Reads Siemens' private header.

    Raises:
        SourceError: An anonymiser has removed it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its readers of DICOM experimental whenever they are imported
        from nibabel.nicom.csareader import read as read_csa

    try:
        private = dcmread(header.path, stop_before_pixels=True, specific_tags=[CSA_HEADER], force=True)
        csa = read_csa(private[CSA_HEADER].value)["tags"]
        x, y, z = (float(v) for v in csa["SliceNormalVector"]["items"][:3])
        return Mosaic(int(csa["NumberOfImagesInMosaic"]["items"][0]), (x, y, z))
    except Exception as error:  # nibabel's parser raises many kinds on a damaged header
        raise SourceError(
            f"{header.path}: a Siemens mosaic (many slices in one image) without the private tag (0029,1010) that says "
            "how many slices it has and where they lie; export it again without removing private tags"
        ) from error


def _tile(header: Header, mosaic: Mosaic, i: int) -> Header:
    """Returns the header of one slice.

    ImagePositionPatient is that of an image as large as the mosaic around the same centre as the first slice (nibabel's
    documentation, "Siemens mosaic format").
    """
    tile = Dataset()
    tile.update({element.tag: element for element in header.dataset if element.keyword not in OF_MOSAIC})
    rows, columns = header.whole("Rows") or 0, header.whole("Columns") or 0
    tile.Rows, tile.Columns = rows // mosaic.n_across, columns // mosaic.n_across
    orientation, spacing = header.numbers("ImageOrientationPatient", 6), header.numbers("PixelSpacing", 2)
    corner = header.numbers("ImagePositionPatient", 3)
    if orientation is None or spacing is None or corner is None:
        raise SourceError(f"{header.path}: a Siemens mosaic without a place in the patient; export it again")
    position = np.array(corner)
    position += np.array(orientation[:3]) * spacing[1] * (columns - tile.Columns) / 2
    position += np.array(orientation[3:]) * spacing[0] * (rows - tile.Rows) / 2
    step = header.number("SpacingBetweenSlices") or header.number("SliceThickness") or 1
    position += np.array(mosaic.normal) * step * i
    tile.ImagePositionPatient = position.tolist()
    return Header(header.path, tile, i if mosaic.n_tiles > 1 else None)
