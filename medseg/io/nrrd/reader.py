"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), placed as ITK places them, without ITK, which rubbish can crash."""

import re
from pathlib import Path

import numpy as np

from medseg.errors import SourceError, reading
from medseg.io.nrrd.header import read_nrrd_header
from medseg.io.nrrd.metaimage_header import read_metaimage_header
from medseg.io.nrrd.raw_image import LONGEST_HEADER, RawImage, named_files, read_raw_voxels
from medseg.volume import Array, Geometry, Volume

NRRD_SUFFIXES = (".nrrd", ".nhdr")

# Where a header says which other files hold its voxels.
DATA_FILES = re.compile(r"^(?:data ?file:|ElementDataFile *=)(?P<names>.*)$", re.MULTILINE)


def read_itk(path: Path) -> Volume:
    """Reads a NRRD or MetaImage file with its exact values and type.

    The components of a pixel, or a fourth axis, are channels; a 2D file has one slice.

    Args:
        path: A ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd``.

    Returns:
        Voxels ``(channel, x, y, z)`` and their grid, in RAS mm, placed as ITK places them.

    Raises:
        SourceError: The file is damaged, or of another kind.
        GeometryError: The affine cannot be inverted, or programs read the place differently.
    """
    image = open_itk(path)
    with reading(path, "NRRD or MetaImage"):
        array = read_raw_voxels(image)
    return Volume(_channels_first(path, array), image.geometry)


def itk_geometry(path: Path) -> Geometry:
    """Reads the grid of a NRRD or MetaImage file from its header alone.

    Raises:
        SourceError: The file is damaged, or of another kind.
        GeometryError: The affine cannot be inverted, or programs read the place differently.
    """
    return open_itk(path).geometry


def open_itk(path: Path) -> RawImage:
    """Reads and checks the header of a NRRD or MetaImage file; the voxels are not read yet.

    Raises:
        SourceError: The file is damaged, or of another kind.
        GeometryError: Programs read the place differently.
    """
    with reading(path, "NRRD or MetaImage"):
        return read_nrrd_header(path) if path.suffix.lower() in NRRD_SUFFIXES else read_metaimage_header(path)


def data_files(path: Path) -> set[Path]:
    """Returns the files that a .mhd or .nhdr keeps its voxels in; none where that cannot be told."""
    try:
        with path.open("rb") as stream:
            header = stream.read(LONGEST_HEADER).decode("utf-8", "replace")
        found = DATA_FILES.search(header)
        if found is None or found["names"].strip() == "LOCAL":
            return set()
        return set(named_files(path, found["names"].strip(), header[found.end() :].split("\n")))
    except (OSError, ValueError):
        return set()


def _channels_first(path: Path, array: Array) -> Array:
    """Returns ``(channel, x, y, z)`` of (component, x, y), with z and further volumes where there are such."""
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 4:
        return array
    if len(array) > 1 and array.shape[-1] > 1:
        raise SourceError(f"{path}: {array.shape[-1]} images of {len(array)} channels; split it into files")
    return array[..., 0] if len(array) > 1 else np.moveaxis(array[0], -1, 0)
