"""What looks like a label map: by its name or its folder, or by its voxels."""

import math
import re
from pathlib import PurePosixPath

import numpy as np

from medseg.dataset.layouts.file_names import mask_core
from medseg.errors import MedsegError
from medseg.io.read import read_geometry, read_volume
from medseg.io.source import ImageSource

FOLDERS = re.compile(r"labels?(?:tr|va|ts)|derivatives|ground|structures|organs|instances", re.IGNORECASE)

MOST_VALUES = 30
LARGEST_VALUE = 255

# A compressed label map takes far less than this for a voxel, an image far more: what takes more needs no look inside.
MOST_BYTES_A_VOXEL = 0.1
FEW_VOXELS = 2**18  # are read in any case


def is_named_like_label(place: PurePosixPath) -> bool:
    """Returns whether a path without suffix is one of a label map.

    Such are ``CT_mask``, ``sub-01_dseg``, ``masks/7``, ``derivatives/manual/x``.
    """
    return mask_core(place.name) is not None or any(map(is_label_folder, place.parts[:-1]))


def is_label_folder(name: str) -> bool:
    """Returns whether a folder is one of label maps: ``masks``, ``segmentations``, ``labelsTr``, ``derivatives``."""
    return mask_core(name) == "" or FOLDERS.fullmatch(name) is not None


def holds_few_integers(source: ImageSource) -> bool:
    """Returns whether its voxels are background and few small whole numbers, as those of a label map.

    It is False for what cannot be read, and for an image of one value.
    """
    if source.kind == "dicom" or source.has_segments:
        return False
    try:
        if not _may_be(source):
            return False
        array = read_volume(source).array
    except MedsegError:  # told where the case is read
        return False
    if len(array) > 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        return False
    low, high = float(array.min()), float(array.max())
    if low != 0 or high > LARGEST_VALUE or high < 1:
        return False
    values = np.unique(array)
    return 1 < len(values) <= MOST_VALUES and bool(np.array_equal(values, np.rint(values)))


def _may_be(source: ImageSource) -> bool:
    """Returns whether a look at the voxels is worth its time."""
    n_voxels = math.prod(read_geometry(source).shape)
    if n_voxels <= FEW_VOXELS:
        return True
    return source.kind != "ome_zarr" and source.path.stat().st_size < MOST_BYTES_A_VOXEL * n_voxels
