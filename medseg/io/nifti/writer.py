"""NIfTI files written through nibabel: volumes, label maps, and a mask for each structure."""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from medseg.errors import GeometryError, OutputError
from medseg.files import written_whole
from medseg.io.folders import is_gzipped, is_nifti
from medseg.io.label_map_volume import LabelMapVolume, with_names
from medseg.io.nifti.reader import PLACE_FIELDS, image_geometry, open_nifti
from medseg.progress import warn
from medseg.volume import Array, Geometry

MOST_VOXELS = 2**15 - 1  # along an axis
FAST = 1  # of the compression by gzip: label maps become small anyway
SINGLE_OFFSET = 352  # bytes before the voxels of a single file


def write_nifti(path: Path | str, array: npt.ArrayLike, geometry: Geometry, like: Path | str | None = None) -> None:
    """Writes a volume or a label map as NIfTI, whole or not at all.

    qform and sform both hold the affine (code 1), in mm. float64 is stored as float32, booleans as uint8, and integers
    of 64 bits as 32.

    Args:
        path: Where to; the name ends with ``.nii`` or ``.nii.gz``.
        array: ``(x, y, z)``, or ``(channel, x, y, z)``; a tensor of torch too.
        geometry: The grid of the array, in RAS mm.
        like: A NIfTI file on the same grid. Its sform and qform are copied to the bit, in its unit of length, and a 2D
            file gets a 2D one, so that every viewer places the two alike.

    Raises:
        GeometryError: ``like`` lies on another grid.
        OutputError: The file cannot be written, or is named otherwise.
        ValueError: The array does not lie on the grid, or has integers of more than 32 bits.

    Example:
        >>> import medseg
        >>> scan = medseg.read_volume("ct.nii.gz")  # doctest: +SKIP
        >>> bone = (scan.array[0] > 300).astype("uint8")  # doctest: +SKIP
        >>> medseg.write_label_map("bone.nii.gz", bone, scan.geometry, like="ct.nii.gz")  # doctest: +SKIP
    """
    path = Path(path)
    if not is_nifti(path):
        raise OutputError(f"{path}: a NIfTI file is named .nii or .nii.gz")
    image = _image(np.asarray(array), geometry)
    if like is not None:
        image = _placed_like(image, path, geometry, Path(like))
    with written_whole(path) as temporary:
        nibabel.save(image, temporary)


def write_nifti_slabs(
    path: Path, slabs: Iterable[Array], geometry: Geometry, dtype: np.dtype[Any], like: Path | None = None
) -> None:
    """Writes a label map as NIfTI that comes slab by slab, so that it is never in memory; whole or not at all.

    Args:
        path: Where to; the name ends with ``.nii`` or ``.nii.gz``.
        slabs: ``(x, y, some z)``, from the first slice to the last.
        geometry: The grid of all of it, in RAS mm.
        dtype: Of the values: whole numbers of 8 to 32 bits.
        like: A NIfTI file on the same grid, whose place is copied to the bit.

    Raises:
        GeometryError: ``like`` lies on another grid.
        OutputError: The file cannot be written, or is larger than NIfTI can say.
    """
    if max(geometry.shape) > MOST_VOXELS:
        raise OutputError(f"{path}: NIfTI has at most {MOST_VOXELS} voxels along an axis; write it as ome-zarr")
    image = _image(np.broadcast_to(dtype.type(0), geometry.shape), geometry)
    if like is not None:
        image = _placed_like(image, path, geometry, like)
    header = image.header.copy()
    header.set_data_dtype(dtype)
    header["vox_offset"], header["magic"] = SINGLE_OFFSET, b"n+1"
    header["scl_slope"], header["scl_inter"] = 1, 0
    with written_whole(path) as temporary, _opened(temporary) as file:
        file.write(header.binaryblock.ljust(SINGLE_OFFSET, b"\0"))
        for slab in slabs:
            file.write(slab.astype(dtype.newbyteorder("<"), copy=False).tobytes("F"))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yields a file to be written, compressed where its name says so: the same content gives the same bytes."""
    with path.open("wb") as file:
        if not is_gzipped(path):
            yield file
            return
        with gzip.GzipFile("", "wb", FAST, file, mtime=0) as packed:
            yield packed


def nifti_bytes(array: Array, geometry: Geometry) -> bytes:
    """Returns the content of a ``.nii`` file, as ``write_nifti`` would write it.

    Args:
        array: ``(x, y, z)``, or ``(channel, x, y, z)``.
        geometry: The grid of the array, in RAS mm.
    """
    content: bytes = _image(array, geometry).to_bytes()
    return content


def write_nifti_mask(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes a label map as one NIfTI file.

    It has the very sform and qform of its source where that is NIfTI.

    Args:
        path: The file.
        segmented: The label map with its grid and source.

    Returns:
        The file.

    Raises:
        OutputError: The file cannot be written.
    """
    write_nifti(path, segmented.label_map, segmented.geometry, like=_header_to_copy(segmented))
    return [path]


def write_nifti_per_label(folder: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes a NIfTI file of 0 and 1 for each label and region, named after it.

    Args:
        folder: Where the files are to lie.
        segmented: The label map with its grid, labels and source.

    Returns:
        The files; where names of structures cannot be names of files, with a table of the true ones (``names.json``).

    Raises:
        OutputError: A file cannot be written.
    """
    written = {}
    for structure, path in segmented.files(folder, ".nii.gz"):
        mask = segmented.mask(structure)
        if not mask.any():
            warn(f"{path}: no voxel of {structure.name}; its file is empty")
        write_nifti(path, mask.astype(np.uint8), segmented.geometry, like=_header_to_copy(segmented))
        written[path] = structure.name
    return with_names(written)


def _header_to_copy(segmented: LabelMapVolume) -> Path | None:
    source = segmented.source
    return source.path if source is not None and source.kind == "nifti" else None


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
    """Returns an array in a type that NIfTI readers know."""
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
    difference = geometry.difference(image_geometry(like, original))
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
