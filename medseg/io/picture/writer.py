"""Label maps as pictures: PNG, and the pages of a TIFF."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.errors import LabelError, OutputError
from medseg.files import written_whole
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.picture.exif import ORIENTATION, UPRIGHT, as_stored, orientation_of
from medseg.io.picture.georeference import Tag, georeference_of
from medseg.io.picture.tiff import TIFF_SUFFIXES
from medseg.volume import Array


def write_picture(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes a label map as PNG, or as the pages of a TIFF, stored and turned as its image is.

    A TIFF takes over where on Earth its image lies, where that is a GeoTIFF.

    Args:
        path: The file.
        segmented: The label map with its source.

    Returns:
        The file.

    Raises:
        LabelError: Values don't fit into 16 bits.
        OutputError: The file cannot be written, or is named otherwise.
    """
    source = segmented.source
    orientation = orientation_of(source.path) if source is not None and source.kind == "image2d" else UPRIGHT
    georeference = georeference_of(source.path) if source is not None and source.kind == "image2d" else []
    write_image2d(path, segmented.label_map, orientation, georeference)
    return [path]


def write_image2d(path: Path, label_map: Array, orientation: int = UPRIGHT, georeference: Sequence[Tag] = ()) -> None:
    """Writes a label map as PNG, or as the pages of a TIFF, in 8 or 16 bits; a TIFF of more than 65,535 in 32.

    Args:
        path: Where to; ``.png``, ``.tif`` or ``.tiff``.
        label_map: ``(x = column, y = row, z)``, as viewers show it; a PNG holds one slice.
        orientation: EXIF's, from 1 to 8: the pixels are stored as those of an image with it, and have its tag.
        georeference: Tags of a TIFF that say where on Earth it lies.

    Raises:
        LabelError: Values don't fit into 16 bits, or into the 32 of a TIFF.
        OutputError: The file cannot be written, or is named otherwise.
    """
    is_tiff = path.suffix.lower() in TIFF_SUFFIXES
    largest = 2**32 - 1 if is_tiff else 65535
    lowest, highest = (int(label_map.min()), int(label_map.max())) if label_map.size else (0, 0)
    if lowest < 0 or highest > largest:
        raise LabelError(f"{path}: holds labels from 0 to {largest}, not {lowest} to {highest}; use NIfTI")
    pages = as_stored(label_map, orientation).T.astype(np.min_scalar_type(max(highest, 0)))
    if not is_tiff and path.suffix.lower() != ".png":
        raise OutputError(f"{path}: label maps are written as .png or .tif (others lose values)")
    if not is_tiff and len(pages) != 1:
        raise OutputError(f"{path}: a PNG holds one slice, not {len(pages)}; use .tif or .nii.gz")
    with written_whole(path) as temporary:
        if is_tiff:
            from tifffile import imwrite  # takes long to import

            turned = [] if orientation == UPRIGHT else [(ORIENTATION, "H", 1, orientation, False)]
            stored = np.ascontiguousarray(pages if len(pages) > 1 else pages[0])
            imwrite(temporary, stored, photometric="minisblack", compression="zlib", extratags=[*turned, *georeference])
        else:
            exif = Image.Exif()
            if orientation != UPRIGHT:
                exif[ORIENTATION] = orientation
            Image.fromarray(np.ascontiguousarray(pages[0])).save(temporary, exif=exif)
