"""NIfTI masks read back through SimpleITK, or byte by byte where it refuses them."""

import gzip
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.io.certificates.certificate import Certificate, together
from medseg.io.certificates.voxels import Expected, VoxelsFound, compared, geometry_by_itk, read_by_itk
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import GRID_TOLERANCE, Array, Geometry

# NIfTI-1 (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h): datatype, and what it is in numpy.
BYTES = "NIfTI-1, byte by byte"
VOXEL_OFFSET = 352  # bytes before the voxels that medseg writes
NIFTI_UNITS = {1: 1000.0, 3: 0.001}  # code of xyzt_units: mm of a metre, and of a micrometre
NIFTI_TYPES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 256: "i1", 512: "<u2", 768: "<u4"}


def check_nifti(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a NIfTI mask back and compares it with the label map that it was to hold.

    Args:
        path: The file.
        segmented: What was to be written.
    """
    return _check_nifti(path, segmented, np.asarray)


def check_nifti_per_label(folder: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a folder of NIfTI masks back, one a structure, and compares each with its structure.

    Args:
        folder: With the files.
        segmented: What was to be written.
    """
    files = segmented.files(folder, ".nii.gz")
    return together([_check_nifti(path, segmented, partial(np.isin, test_elements=s.values)) for s, path in files])


def _check_nifti(path: Path, segmented: LabelMapVolume, expected: Expected) -> Certificate:
    """Compares a file with a label map, or with one structure of it.

    SimpleITK may place a file by its qform, where nibabel goes by the sform, and other readers do either. So what was
    written on a NIfTI image has to lie where the same reader sees the image.
    """
    try:
        found = read_by_itk(path)
    except RuntimeError:  # as when axes are not exactly at right angles
        return compared(_read_nifti(path), segmented, [expected], segmented.geometry)
    source, place = segmented.source, segmented.geometry
    if source is not None and source.kind == "nifti":
        with suppress(RuntimeError):  # as of an old header without a place
            place = geometry_by_itk(source.path)
    return compared(found, segmented, [expected], place)


def check_nifti_slabs(path: Path, slabs: Iterable[Array], place: Geometry) -> Certificate:
    """Reads a NIfTI mask back, byte by byte and slab by slab, and compares it with what it was to hold.

    Args:
        path: The file.
        slabs: ``(x, y, some z)``, from the first slice to the last, as they should be.
        place: Where the grid belongs.
    """
    n_different, n_voxels = 0, 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        head = file.read(VOXEL_OFFSET)
        dtype, found = _said(head)
        for slab in slabs:
            stored = np.frombuffer(file.read(slab.size * dtype.itemsize), dtype)
            n_voxels += slab.size
            if stored.size < slab.size:
                return Certificate(BYTES, 0, 0, 0.0, 0.0, remark="it ends in the middle")
            n_different += int(np.count_nonzero(stored.reshape(slab.shape, order="F") != slab))
        if file.read(1) or found.shape != place.shape:
            return Certificate(BYTES, 0, 0, 0.0, 0.0, remark=f"it has {found.shape} voxels instead of {place.shape}")
    return Certificate(BYTES, n_voxels, n_different, place.distance(found), GRID_TOLERANCE * min(place.spacing))


def _said(head: bytes) -> tuple[np.dtype[Any], Geometry]:
    """Returns the type of voxels and the grid that a header of NIfTI-1 says."""
    _, *shape = struct.unpack_from("<4h", head, 40)
    (datatype,) = struct.unpack_from("<h", head, 70)
    to_mm = NIFTI_UNITS.get(head[123] % 8, 1.0)
    affine = np.vstack([np.reshape(struct.unpack_from("<12f", head, 280), (3, 4)) * to_mm, (0, 0, 0, 1)])
    x, y, z = shape
    return np.dtype(NIFTI_TYPES[datatype]), Geometry((x, y, z), affine)


def _read_nifti(path: Path) -> VoxelsFound:
    """Reads the bytes of a NIfTI-1 file with an sform, little-endian, as medseg writes them."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dtype, geometry = _said(content)
    (start,) = struct.unpack_from("<f", content, 108)
    voxels = np.frombuffer(content, dtype, int(np.prod(geometry.shape)), int(start))
    return VoxelsFound(BYTES, voxels.reshape(1, *geometry.shape, order="F"), geometry)
