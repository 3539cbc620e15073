"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), in ITK's world but without ITK, which rubbish in a header can crash."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, SourceError, reading
from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.io.metaimage_header import read_metaimage_header
from medseg.io.nrrd_header import read_nrrd_header
from medseg.io.raw_image import LONGEST_HEADER, RawImage, named_files, read_voxels
from medseg.volume import Array, Geometry, Volume

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

NRRD_SUFFIXES = (".nrrd", ".nhdr")

# Where a header says which other files hold its voxels.
DATA_FILES = re.compile(r"^(?:data ?file:|ElementDataFile *=)(?P<names>.*)$", re.MULTILINE)


def read_itk(path: Path) -> Volume:
    """Reads ``(channel, x, y, z)`` with the exact values and type of the file.

    The components of a pixel, or a fourth axis, are channels; a 2D file has one slice. Raises ``SourceError`` for a
    file that is damaged or of another kind, ``GeometryError`` for an affine that cannot be inverted.
    """
    image = open_itk(path)
    with reading(path, "NRRD or MetaImage"):
        array = read_voxels(image)
    return Volume(_channels_first(path, array), image.geometry)


def itk_geometry(path: Path) -> Geometry:
    """The grid of a file, from its header alone. Raises as ``read_itk`` does."""
    return open_itk(path).geometry


def open_itk(path: Path) -> RawImage:
    """The header, read and checked; the voxels, not yet. Raises ``SourceError`` for a file that is damaged or of another
    kind, ``GeometryError`` for a place that programs read differently."""
    with reading(path, "NRRD or MetaImage"):
        return read_nrrd_header(path) if path.suffix.lower() in NRRD_SUFFIXES else read_metaimage_header(path)


def data_files(path: Path) -> set[Path]:
    """The files that a .mhd or .nhdr keeps its voxels in; empty where it cannot be told."""
    try:
        with path.open("rb") as stream:
            header = stream.read(LONGEST_HEADER).decode("utf-8", "replace")
        found = DATA_FILES.search(header)
        names = found["names"].strip() if found else "LOCAL"
        return (
            set()
            if found is None or names == "LOCAL"
            else set(named_files(path, names, header[found.end() :].split("\n")))
        )
    except (OSError, ValueError):
        return set()


def geometry_of(reader: "ImageFileReader", path: Path) -> Geometry:
    """Raises ``GeometryError`` for an affine that cannot be inverted."""
    n = reader.GetDimension()
    spatial = min(n, 3)
    affine = np.eye(4)
    directions = np.reshape(reader.GetDirection(), (n, n)) * reader.GetSpacing()
    affine[:spatial, :spatial] = directions[:spatial, :spatial]
    affine[:spatial, 3] = reader.GetOrigin()[:spatial]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise GeometryError(f"{path}: the affine in the header cannot be inverted: {affine[:3].tolist()}")
    x, y, z = (*reader.GetSize(), 1)[:3]
    return Geometry((x, y, z), LPS_TO_RAS @ affine)


def _channels_first(path: Path, array: Array) -> Array:
    """``array``: (component, x, y), with z and further volumes where there are such."""
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 4:
        return array
    if len(array) > 1 and array.shape[-1] > 1:
        raise SourceError(f"{path}: {array.shape[-1]} images of {len(array)} channels; split it into files")
    return array[..., 0] if len(array) > 1 else np.moveaxis(array[0], -1, 0)
