"""2D images: PNG, JPEG and BMP through Pillow, TIFF through tifffile.

A picture has no place in a patient: its affine is the identity, with x along the columns and y down the rows, as
viewers show it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.errors import SourceError, reading
from medseg.io.declared_size import MOST_INFLATED, check_declared_size
from medseg.io.file_signature import content_suffix
from medseg.io.picture.exif import TURNS, as_shown, orientation_in
from medseg.io.picture.jpeg import check_jpeg
from medseg.io.picture.tiff import TIFF_SUFFIXES, read_tiff, tiff_shape
from medseg.volume import Array, Geometry, Volume

FORMATS = ("PNG", "JPEG", "BMP")  # of the others that Pillow opens, one runs programs (PostScript)
JPEG = ("JPEG", "MPO")
MANY_PICTURES = ("MPO",)  # whose first picture is the one that is meant: photographs with a preview
# No byte of a PNG, whose pixels may have one bit, or of a JPEG stands for more.
PIXELS_A_BYTE = 8 * MOST_INFLATED
ALPHA = {
    "LA": "L",
    "La": "L",
    "RGBA": "RGB",
    "RGBa": "RGB",
    "RGBX": "RGB",
    "PA": "P",
}  # Pillow mode without it
EXACT_MODES = ("1", "L", "P", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def read_image2d(path: Path) -> Volume:
    """Reads a picture (PNG, JPEG, BMP, TIFF) with exact values, turned as viewers show it.

    Grey is one channel, colour three; alpha is dropped. A colour palette is read as its indices, which mark labels; a
    grey one as grey values, black and white as 0 and 1. The pages of a TIFF are slices.

    Returns:
        Pixels ``(channel, x = column, y = row, z)``, on a grid whose affine is the identity.

    Raises:
        SourceError: The file cannot be read, or would lose values.
    """
    with reading(path, "an image"):
        array = read_tiff(path) if _is_tiff(path) else _read_picture(path)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise SourceError(f"{path}: pixels of type {array.dtype} cannot be read; store integers or floats")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    x, y, z = array.shape[1:]
    return Volume(array, Geometry((x, y, z), np.eye(4)))


def read_pictures(paths: Sequence[Path]) -> Volume:
    """Reads pictures as the slices of one volume.

    Args:
        paths: Of each slice, in order.

    Returns:
        Pixels ``(channel, x = column, y = row, z)``, on a grid whose affine is the identity.

    Raises:
        SourceError: A file cannot be read, or they are of several sizes.
    """
    arrays = [read_image2d(path).array for path in paths]
    odd = next((i for i, array in enumerate(arrays) if array.shape != (*arrays[0].shape[:3], 1)), None)
    if odd is not None:
        raise SourceError(f"{paths[odd]}: is of another size, or has other channels, than {paths[0].name}")
    array = np.concatenate(arrays, axis=-1)
    x, y, z = array.shape[1:]
    return Volume(array, Geometry((x, y, z), np.eye(4)))


def image2d_geometry(path: Path) -> Geometry:
    """Reads the grid of a picture, without its pixels.

    Raises:
        SourceError: The file cannot be read.
    """
    with reading(path, "an image"):
        if _is_tiff(path):
            return Geometry(tiff_shape(path), np.eye(4))
        with _opened(path) as image:
            swapped, _ = TURNS.get(orientation_in(image), (False, ()))
            x, y = (image.height, image.width) if swapped else (image.width, image.height)
    return Geometry((x, y, 1), np.eye(4))


def _is_tiff(path: Path) -> bool:
    """Says whether a file is a TIFF by its name, or by its content under the name of another picture."""
    return path.suffix.lower() in TIFF_SUFFIXES or content_suffix(path) == ".tif"


def _opened(path: Path) -> Image.Image:
    """Opens a picture.

    Raises:
        SourceError: It holds more than is read of it.
        ValueError: It cannot hold its pixels.
    """
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise SourceError(f"{path}: has too many pixels ({error}); cut it, or convert it to TIFF") from error
    check_declared_size(image.width * image.height, path.stat().st_size, ratio=PIXELS_A_BYTE)
    n_pictures = getattr(image, "n_frames", 1)
    if n_pictures > 1 and image.format not in MANY_PICTURES:
        raise SourceError(f"{path}: holds {n_pictures} pictures; store each in a file, or all as the pages of a TIFF")
    return image


def _read_picture(path: Path) -> Array:
    if _png_bits_lost(path):
        raise SourceError(f"{path}: 16-bit colour PNG would lose half of its bits; convert it to TIFF")
    with _opened(path) as image:
        orientation = orientation_in(image)
        if image.mode in ALPHA:
            image = image.convert(ALPHA[image.mode])
        if image.mode == "P" and _is_grey(image):
            image = image.convert("L")
        if image.mode not in EXACT_MODES:
            image = image.convert("RGB")
        array = np.asarray(image)
        is_jpeg = image.format in JPEG
    if is_jpeg:
        check_jpeg(path)
    return as_shown(array.T[:, :, :, None] if array.ndim == 3 else array.T[None, :, :, None], orientation)


def _png_bits_lost(path: Path) -> bool:
    """Says whether it is a PNG of colours, or of grey with alpha, in 16 bits: Pillow reduces them to 8 without
    a word."""
    with path.open("rb") as stream:
        header = stream.read(26)
    return len(header) == 26 and header.startswith(b"\x89PNG") and header[24] == 16 and header[25] & 6 != 0


def _is_grey(image: Image.Image) -> bool:
    palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = palette[np.unique(np.asarray(image))]
    return bool((used == used[:, :1]).all())
