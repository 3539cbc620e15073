"""NIfTI files through nibabel."""

import gzip
import zlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from medseg.errors import GeometryError, OutputError, SourceError
from medseg.files import written_whole
from medseg.io.folders import is_nifti
from medseg.volume import Array, Geometry, Volume

# What nibabel, gzip and numpy raise on a file that is cut short or damaged.
DAMAGED = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)

# The header fields that say where the voxels lie.
PLACE_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


def read_nifti(path: Path) -> Volume:
    """Reads .nii or .nii.gz with the exact values of the file: ``(channel, x, y, z)``.

    The type on disk is kept where the header has no scaling, else values are float64. The fourth axis becomes
    channels, a 2D file has one slice. Raises ``SourceError`` for a file that is damaged or no NIfTI,
    ``GeometryError`` for an affine that cannot be inverted.
    """
    image = open_nifti(path)
    geometry = _geometry(path, image)
    try:
        array = _voxels(path, image)
    except DAMAGED as error:
        raise _damaged(path, error) from error
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise SourceError(f"{path}: voxels of type {array.dtype} cannot be read; store integers or floats")
    return Volume(_channels_first(path, array.astype(array.dtype.newbyteorder("="), copy=False)), geometry)


def nifti_geometry(path: Path) -> Geometry:
    """The grid of a NIfTI file, from its header alone. Raises as ``read_nifti`` does."""
    return _geometry(path, open_nifti(path))


def write_nifti(path: Path, array: Array, geometry: Geometry, like: Path | None = None) -> None:
    """Writes ``array`` (x, y, z) or (channel, x, y, z) as .nii or .nii.gz, whole or not at all.

    qform and sform both hold the affine (code 1), in mm. With ``like``, a NIfTI file on the same grid, both are
    copied from its header to the bit, in its unit of length, and a 2D file gets a 2D one, so that every viewer places
    the two alike. float64 is stored as float32.

    Raises ``GeometryError`` when ``like`` lies on another grid, ``OutputError`` when the file cannot be
    written.
    """
    if not is_nifti(path):
        raise OutputError(f"{path}: a NIfTI file is named .nii or .nii.gz")
    image = _image(array, geometry)
    if like is not None:
        image = _placed_like(image, path, geometry, like)
    with written_whole(path) as temporary:
        nibabel.save(image, temporary)


def nifti_bytes(array: Array, geometry: Geometry) -> bytes:
    """The content of a .nii file, as ``write_nifti`` would write it."""
    content: bytes = _image(array, geometry).to_bytes()
    return content


def open_nifti(path: Path) -> nibabel.Nifti1Image:
    """The header, read; the voxels, not yet. Raises ``SourceError`` for a file that is damaged or no NIfTI."""
    try:
        image = nibabel.load(path)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: there is no such file") from error
    except DAMAGED as error:
        raise _damaged(path, error) from error
    if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 is a subclass
        raise SourceError(f"{path} is {type(image).__name__}, not NIfTI; convert it to .nii.gz")
    return image


def _damaged(path: Path, error: Exception) -> SourceError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return SourceError(f"{path}: truncated, damaged or not NIfTI ({reason}); copy or export it again")


def _voxels(path: Path, image: nibabel.Nifti1Image) -> Array:
    if path.suffix.lower() != ".gz":
        return np.asarray(image.dataobj)
    with gzip.open(path) as stream:
        array = np.asarray(type(image).from_stream(stream).dataobj)
        stream.read()  # gzip compares the checksum only at the end of the file
    return array


def _channels_first(path: Path, array: Array) -> Array:
    shape = (*array.shape, 1, 1, 1)[: max(array.ndim, 3)]
    n_channels = [n for n in shape[3:] if n != 1]
    if len(n_channels) > 1:
        raise SourceError(f"{path}: {array.ndim} axes {array.shape}; split it into files of at most four axes")
    return np.moveaxis(array.reshape(*shape[:3], *(n_channels or [1])), -1, 0)


def _geometry(path: Path, image: nibabel.Nifti1Image) -> Geometry:
    x, y, z = (*image.shape, 1, 1, 1)[:3]
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise GeometryError(f"{path}: the affine in the header cannot be inverted: {affine[:3].tolist()}")
    if 0 in (x, y, z):
        raise SourceError(f"{path}: holds no voxels (shape {image.shape})")
    return Geometry((x, y, z), affine)


def _image(array: Array, geometry: Geometry) -> nibabel.Nifti1Image:
    if array.ndim not in (3, 4) or array.shape[-3:] != geometry.shape:
        raise ValueError(f"array {array.shape} does not lie on the grid {geometry.shape}")
    if array.ndim == 4:
        array = np.moveaxis(array, 0, -1)
    image = nibabel.Nifti1Image(_storable(array), geometry.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(geometry.affine, code=1)
    image.set_sform(geometry.affine, code=1)
    return image


def _storable(array: Array) -> Array:
    """In a type that NIfTI readers know."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype in (np.float64, np.float16):
        return array.astype(np.float32)
    if array.dtype in (np.int64, np.uint64):
        if array.size and (array.min() < -(2**31) or array.max() >= 2**31):
            raise ValueError(f"values up to {array.max()} do not fit into 32 bits")
        return array.astype(np.int32)
    return array


def _placed_like(image: nibabel.Nifti1Image, path: Path, geometry: Geometry, like: Path) -> nibabel.Nifti1Image:
    original = open_nifti(like)
    difference = geometry.difference(_geometry(like, original))
    if difference is not None:
        raise GeometryError(f"{path} cannot be written on the grid of {like}: {difference}")
    array, header = np.asarray(image.dataobj), image.header
    if len(original.shape) == 2 and array.ndim == 3:
        array = array[..., 0]
        header.set_data_shape(array.shape)
    for name in PLACE_FIELDS:
        header[name] = original.header[name]
    header["pixdim"][:4] = original.header["pixdim"][:4]
    header["xyzt_units"] = int(original.header["xyzt_units"]) % 8  # the bits above are the unit of time
    return nibabel.Nifti1Image(array, None, header)  # without an affine, which nibabel would write into the header
