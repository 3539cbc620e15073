"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) through SimpleITK."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, SourceError
from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.volume import Array, Geometry, Volume

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

NRRD_SUFFIXES = (".nrrd", ".nhdr")

# Where a header says which other files hold its voxels.
DATA_FILES = re.compile(r"^(?:data ?file:|ElementDataFile *=) *(?P<names>.*?) *$", re.MULTILINE)


def read_itk(path: Path) -> Volume:
    """Reads ``(channel, x, y, z)`` with the exact values and type of the file.

    The components of a pixel, or a fourth axis, are channels; a 2D file has one slice. Raises ``SourceError`` for a
    file that is damaged or of another kind, ``GeometryError`` for an affine that cannot be inverted.
    """
    from SimpleITK import GetArrayFromImage

    reader = open_itk(path)
    geometry = geometry_of(reader, path)
    try:
        array = GetArrayFromImage(reader.Execute()).T  # axes from the fastest: component, x, y, z, time
    except RuntimeError as error:
        raise _damaged(path, error) from error
    if array.dtype.kind not in "iuf":
        raise SourceError(f"{path}: voxels of type {array.dtype} cannot be read; store integers or floats")
    return Volume(_channels_first(array, reader, path), geometry)


def itk_geometry(path: Path) -> Geometry:
    """The grid of a file, from its header alone. Raises as ``read_itk`` does."""
    return geometry_of(open_itk(path), path)


def open_itk(path: Path) -> "ImageFileReader":
    """The header, read; the voxels, not yet. Raises ``SourceError`` for a file that is damaged or of another kind."""
    from SimpleITK import ImageFileReader

    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    reader = ImageFileReader()
    # What it is says the name: ITK would otherwise take a MetaImage that is called .nrrd for one.
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in NRRD_SUFFIXES else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(path, error) from error
    if reader.GetDimension() not in (2, 3, 4):
        raise SourceError(f"{path}: {reader.GetDimension()} axes {reader.GetSize()}; store two to four")
    return reader


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


def data_files(path: Path) -> set[Path]:
    """The files that a .mhd or .nhdr keeps its voxels in; empty where it cannot be told."""
    try:
        header = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    found = DATA_FILES.search(header)
    if found is None or found["names"] == "LOCAL":
        return set()
    listed = header[found.end() :].split("\n") if found["names"].startswith("LIST") else _numbered(found["names"])
    return {path.parent / name.strip() for name in listed if name.strip()}


def _numbered(names: str) -> list[str]:
    """The files of ``slice%03d.raw 1 50 1``; any other name as it is."""
    pattern = re.fullmatch(r"(\S*%0?\d*d\S*) +(\d+) +(\d+)(?: +(\d+))?(?: +\d+)?", names)
    if pattern is None:
        return [names]
    form, first, last, step = pattern.groups()
    return [form % i for i in range(int(first), int(last) + 1, int(step or 1))]


def _channels_first(array: Array, reader: "ImageFileReader", path: Path) -> Array:
    n_components = reader.GetNumberOfComponents()
    array = array if n_components > 1 else array[None]
    if reader.GetDimension() == 2:
        return array[..., None]
    if reader.GetDimension() == 3:
        return array
    if n_components > 1 and array.shape[-1] > 1:
        raise SourceError(f"{path}: {array.shape[-1]} images of {n_components} channels; split it into files")
    return array[..., 0] if n_components > 1 else np.moveaxis(array[0], -1, 0)


def _damaged(path: Path, error: RuntimeError) -> SourceError:
    lines = [line for line in str(error).strip().splitlines() if not line.startswith("Reason:")]
    # ITK's text begins with where in its own sources it failed.
    reason = re.sub(r"^.*?(?:ERROR: |\[nrrd\] )", "", lines[-1]) if lines else "damaged"
    reason = re.sub(r"^\w+ImageIO\(0x\w+\): ", "", reason)
    return SourceError(f"{path}: truncated, damaged or not NRRD or MetaImage ({reason}); copy or export it again")
