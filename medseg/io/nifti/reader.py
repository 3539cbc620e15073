"""NIfTI files, and Analyze 7.5, through nibabel."""

import gzip
from math import isfinite, prod
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.analyze import AnalyzeImage
from nibabel.arrayproxy import ArrayProxy
from nibabel.openers import ImageOpener

from medseg.errors import GeometryError, SourceError, reading
from medseg.io.declared_size import MOST_INFLATED, check_declared_size
from medseg.io.folders import is_gzipped, is_pair
from medseg.io.nifti.pair import nifti_header, open_pair, voxel_file
from medseg.volume import Array, Geometry, Volume

# Codes of xyzt_units, by name and in mm. Any other code is read as mm, as ITK does.
UNITS = {1: ("metre", 1000.0), 2: ("mm", 1.0), 3: ("micron", 0.001)}
UNKNOWN_UNIT = ("unknown", 1.0)
SPATIAL_UNIT = 0b111  # bits of xyzt_units; the others are the unit of time

# Values of sform_code and qform_code (nifti1.h, NIFTI_XFORM_*).
XFORM_CODES = range(6)

EXTENSION_FLAG = 4  # bytes after the header of a single file, before which voxels cannot begin

# Slopes that ITK does not take for 0, and values that its floats hold.
SMALLEST_SLOPE = float(np.finfo(np.float64).eps)
LARGEST_VALUE = float(np.finfo(np.float32).max)

CHUNK = 2**20

# The header fields that say where the voxels lie.
PLACE_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


def read_nifti(path: Path) -> Volume:
    """Reads a NIfTI or Analyze 7.5 file with its exact values.

    The type on disk is kept where the header has no scaling, else values are float64. The fourth axis becomes channels,
    and a 2D file has one slice. Lengths in metres or micrometres become mm.

    Args:
        path: A ``.nii``, a ``.nii.gz``, or the ``.hdr`` of a pair of ``.hdr`` and ``.img``.

    Returns:
        Voxels ``(channel, x, y, z)`` and their grid, in RAS mm.

    Raises:
        SourceError: The file is damaged, or no NIfTI.
        GeometryError: The affine cannot be inverted, or programs read the place differently.
    """
    image = open_nifti(path)
    geometry = image_geometry(path, image)
    with reading(path, "NIfTI"):
        array = _voxels(path, image)
    return Volume(_channels_first(path, array.astype(array.dtype.newbyteorder("="), copy=False)), geometry)


def nifti_geometry(path: Path) -> Geometry:
    """Reads the grid of a NIfTI file from its header alone.

    Raises:
        SourceError: The file is damaged, or no NIfTI.
        GeometryError: The affine cannot be inverted, or programs read the place differently.
    """
    return image_geometry(path, open_nifti(path))


def open_nifti(path: Path, in_memory: bool = True) -> AnalyzeImage:
    """Reads and checks the header of a NIfTI file; the voxels are not read yet.

    Args:
        path: A NIfTI file, or the header of a pair, Analyze among it.
        in_memory: Whether all of its voxels will be in memory at once.

    Returns:
        nibabel's image.

    Raises:
        SourceError: The file is damaged, no NIfTI, or holds no numbers.
        GeometryError: Programs read its place differently.
    """
    with reading(path, "NIfTI"):
        image = open_pair(path) if is_pair(path) else nibabel.load(path)
        if not isinstance(image, AnalyzeImage):  # so is NIfTI
            raise SourceError(f"{path} is {type(image).__name__}, not NIfTI; convert it to .nii.gz")
        proxy = array_proxy(image)
        _check_type(path, proxy.dtype)
        header = nifti_header(image)
        if header is not None:
            stored = _stored_header(path, header)
            _check_codes(path, stored)
            _check_scaling(path, stored, proxy.dtype)
        if not is_pair(path) and proxy.offset < image.header.sizeof_hdr + EXTENSION_FLAG:
            raise ValueError(f"its voxels are said to begin in the header, at byte {proxy.offset}")
        file = voxel_file(path)
        ratio = MOST_INFLATED if is_gzipped(file) else 1
        check_declared_size(n_bytes(image), file.stat().st_size, ratio=ratio, in_memory=in_memory)
    return image


def n_bytes(image: AnalyzeImage) -> int:
    """Returns the size of the file with the voxels, not compressed, in bytes."""
    proxy = array_proxy(image)
    return int(proxy.offset) + prod(int(n) for n in image.shape) * int(proxy.dtype.itemsize)


def array_proxy(image: AnalyzeImage) -> ArrayProxy:
    """Returns where and how the voxels of an opened image lie in its file; they are not read yet.

    Raises:
        TypeError: The image was made of an array, not opened.
    """
    if not isinstance(image.dataobj, ArrayProxy):
        raise TypeError("an image in memory lies in no file")
    return image.dataobj


def unit_of(header: nibabel.Nifti1Header) -> tuple[str, float]:
    """Returns the unit in which a header gives lengths, and how many mm it is, such as ``("micron", 0.001)``."""
    return UNITS.get(int(header["xyzt_units"]) & SPATIAL_UNIT, UNKNOWN_UNIT)


def in_mm(affine: npt.ArrayLike, header: nibabel.Nifti1Header) -> npt.NDArray[np.float64]:
    """Returns an affine that stands in the header, or was made of it, in mm.

    Args:
        affine: ``(4, 4)``, in the unit of the header.
        header: That says the unit.
    """
    _, mm = unit_of(header)
    return np.diag([mm, mm, mm, 1.0]) @ np.asarray(affine, dtype=np.float64)


def in_unit_of(header: nibabel.Nifti1Header, affine: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns an affine in mm as the header is to hold it.

    Args:
        header: That says the unit.
        affine: ``(4, 4)``, in mm.
    """
    _, mm = unit_of(header)
    return np.diag([1 / mm, 1 / mm, 1 / mm, 1.0]) @ np.asarray(affine, dtype=np.float64)


def _check_type(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.names:
        raise SourceError(
            f"{path}: holds colours ({''.join(dtype.names)}), which are no intensities; store one grey value a voxel, "
            "or the channels along a fourth axis"
        )
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise SourceError(f"{path}: voxels of type {dtype} cannot be read; store integers or floats")


def _stored_header(path: Path, header: nibabel.Nifti1Header) -> nibabel.Nifti1Header:
    """Reads the header as it stands in the file: in that of an image nibabel has mended codes, and forgotten the
    scaling."""
    with ImageOpener(str(path)) as stream:
        stored: nibabel.Nifti1Header = type(header).from_fileobj(stream, check=False)
    return stored


def _check_codes(path: Path, header: nibabel.Nifti1Header) -> None:
    """Refuses unknown codes: programs differ in whether such a code says that the sform, or the qform, counts."""
    for name in ("sform_code", "qform_code"):
        code = int(header[name])
        if code not in XFORM_CODES:
            raise GeometryError(
                f"{path}: {name} is {code}, which NIfTI does not know ({XFORM_CODES[0]} to {XFORM_CODES[-1]}), so that "
                "programs place it differently; set it to 1 if its place is right"
            )


def _check_scaling(path: Path, header: nibabel.Nifti1Header, dtype: np.dtype[Any]) -> None:
    """Refuses scalings that nibabel and ITK read differently.

    These are an intercept without a slope, and slopes that floats of 32 bits don't hold.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    is_scaled = isfinite(slope) and slope != 0
    highest = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
    largest = abs(slope) * highest + abs(intercept)
    if (not is_scaled and isfinite(intercept) and intercept != 0) or (
        is_scaled and not (abs(slope) > SMALLEST_SLOPE and largest < LARGEST_VALUE)
    ):
        raise SourceError(
            f"{path}: scales its values by {slope:g} and {intercept:g} (scl_slope, scl_inter), which programs read "
            "differently; store the values as they are"
        )


def _voxels(path: Path, image: AnalyzeImage) -> Array:
    file, proxy = voxel_file(path), array_proxy(image)
    if not is_gzipped(file):
        return np.asarray(proxy)
    with gzip.open(file) as stream:
        array = np.asarray(ArrayProxy(stream, (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)))
        while stream.read(CHUNK):  # gzip compares the checksum only at the end of the file
            pass
    return array


def _channels_first(path: Path, array: Array) -> Array:
    shape = (*array.shape, 1, 1, 1)[: max(array.ndim, 3)]
    n_channels = [n for n in shape[3:] if n != 1]
    if len(n_channels) > 1:
        raise SourceError(f"{path}: {array.ndim} axes {array.shape}; split it into files of at most four axes")
    return np.moveaxis(array.reshape(*shape[:3], *(n_channels or [1])), -1, 0)


def image_geometry(path: Path, image: AnalyzeImage) -> Geometry:
    """Returns the grid of an image, in RAS mm.

    Args:
        path: Of the file, for messages.
        image: What ``open_nifti`` gave.

    Raises:
        GeometryError: The affine cannot be inverted.
        SourceError: There are no voxels.
    """
    x, y, z = (*image.shape, 1, 1, 1)[:3]
    header = nifti_header(image)
    affine = np.asarray(image.affine, np.float64) if header is None else in_mm(image.affine, header)
    is_flat = np.linalg.matrix_rank(affine[:3, :3]) < 3 if np.isfinite(affine).all() else True
    if is_flat or np.linalg.det(affine) == 0:  # which is 0 for voxels that are all but nothing
        raise GeometryError(f"{path}: the affine in the header cannot be inverted: {affine[:3].tolist()}")
    if 0 in (x, y, z):
        raise SourceError(f"{path}: holds no voxels (shape {image.shape})")
    return Geometry((x, y, z), affine)
