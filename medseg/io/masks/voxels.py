"""Masks as files of voxels: NIfTI, and pictures for 2D images."""

from pathlib import Path

from medseg.io.exif import UPRIGHT, orientation_of
from medseg.io.image2d import write_image2d
from medseg.io.masks.segmented import Segmented


def write_picture(path: Path, segmented: Segmented) -> list[Path]:
    """Writes the label map as PNG, or as the pages of a TIFF, stored and turned as its image is. Raises as
    ``write_image2d`` does."""
    source = segmented.source
    orientation = orientation_of(source.path) if source is not None and source.kind == "image2d" else UPRIGHT
    write_image2d(path, segmented.label_map, orientation)
    return [path]
