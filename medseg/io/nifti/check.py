"""NIfTI masks read back through SimpleITK, or byte by byte where it refuses them."""

import gzip
import struct
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from medseg.io.certificates.certificate import Certificate, together
from medseg.io.certificates.voxels import Expected, VoxelsFound, compared, geometry_by_itk, read_by_itk
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import Geometry

# NIfTI-1 (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h): datatype, and what it is in numpy.
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


def _read_nifti(path: Path) -> VoxelsFound:
    """Reads the bytes of a NIfTI-1 file with an sform, little-endian, as medseg writes them."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    _, *shape = struct.unpack_from("<4h", content, 40)
    (datatype,) = struct.unpack_from("<h", content, 70)
    (start,) = struct.unpack_from("<f", content, 108)
    to_mm = NIFTI_UNITS.get(content[123] % 8, 1.0)
    affine = np.vstack([np.reshape(struct.unpack_from("<12f", content, 280), (3, 4)) * to_mm, (0, 0, 0, 1)])
    voxels = np.frombuffer(content, NIFTI_TYPES[datatype], int(np.prod(shape)), int(start))
    x, y, z = shape
    return VoxelsFound("NIfTI-1, byte by byte", voxels.reshape(1, x, y, z, order="F"), Geometry((x, y, z), affine))
