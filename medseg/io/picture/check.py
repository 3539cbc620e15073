"""Pictures of label maps read back through SimpleITK, or through Pillow where they are stored turned."""

from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps, ImageSequence

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.voxels import VoxelsFound, compared, not_compared, read_by_itk
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import Geometry

GEOTIFF = (".tif", ".tiff")
GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737)


def check_picture(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a picture back and compares it with the label map that it was to hold.

    SimpleITK does not go by the orientation of a photograph, so that a mask which is stored as one is turned by Pillow.
    It has to have the orientation of its image, and of a GeoTIFF the georeference.

    Args:
        path: The file.
        segmented: What was to be written.
    """
    found, source = read_by_itk(path), segmented.source
    if source is not None and source.kind == "image2d" and (turn := _orientation(source.path)) != 1:
        if _orientation(path) != turn:
            return not_compared(found, "it is not stored in the orientation of its image")
        found = _read_shown(path)
    if source is not None and source.kind == "image2d" and path.suffix.lower() in GEOTIFF:
        place = _georeference(source.path)
        if place and _georeference(path) != place:
            return not_compared(found, "it does not lie on Earth where its image lies")
    return compared(found, segmented, [np.asarray], found.geometry)  # pictures have no place in the world


def _georeference(path: Path) -> dict[int, object]:
    """Returns the tags of a GeoTIFF; none of other files, and of those that Pillow cannot read."""
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            tags = getattr(image, "tag_v2", {})
            return {code: tags[code] for code in GEOREFERENCE if code in tags}
    except OSError:
        return {}


def _orientation(path: Path) -> int:
    """Returns EXIF's orientation, or that of TIFF; 1 for pictures that are stored upright, or that Pillow
    cannot read."""
    try:
        with Image.open(path) as image:
            return int(image.getexif().get(0x0112, 1))
    except OSError:
        return 1


def _read_shown(path: Path) -> VoxelsFound:
    """Reads a picture as viewers turn it."""
    with Image.open(path) as image:  # of TIFF Pillow turns every page as it reads it
        pages = [np.asarray(ImageOps.exif_transpose(page)) for page in ImageSequence.Iterator(image)]
    layer = np.stack(pages).T
    x, y, z = layer.shape
    return VoxelsFound(f"Pillow {PIL.__version__}", layer[None], Geometry((x, y, z), np.eye(4)))
