"""Masks as files of voxels: NIfTI, and pictures for 2D images."""

from pathlib import Path

import numpy as np

from medseg.io.exif import UPRIGHT, orientation_of
from medseg.io.image2d import write_image2d
from medseg.io.masks.segmented import Segmented, with_names
from medseg.io.nifti import write_nifti
from medseg.progress import warn


def write_nifti_mask(path: Path, segmented: Segmented) -> list[Path]:
    """Writes the label map, with the very sform and qform of a source that is NIfTI. Raises ``OutputError`` when the
    file cannot be written."""
    write_nifti(path, segmented.label_map, segmented.geometry, like=_header(segmented))
    return [path]


def write_nifti_per_label(folder: Path, segmented: Segmented) -> list[Path]:
    """Writes a file of 0 and 1 for each label and region, named after it. Raises ``OutputError`` when it cannot."""
    written = {}
    for structure, path in segmented.files(folder, ".nii.gz"):
        mask = segmented.mask(structure)
        if not mask.any():
            warn(f"{path}: no voxel of {structure.name}; its file is empty")
        write_nifti(path, mask.astype(np.uint8), segmented.geometry, like=_header(segmented))
        written[path] = structure.name
    return with_names(written)


def write_picture(path: Path, segmented: Segmented) -> list[Path]:
    """Writes the label map as PNG, or as the pages of a TIFF, stored and turned as its image is. Raises as
    ``write_image2d`` does."""
    source = segmented.source
    orientation = orientation_of(source.path) if source is not None and source.kind == "image2d" else UPRIGHT
    write_image2d(path, segmented.label_map, orientation)
    return [path]


def _header(segmented: Segmented) -> Path | None:
    source = segmented.source
    return source.path if source is not None and source.kind == "nifti" else None
