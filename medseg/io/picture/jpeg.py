"""JPEG with damaged pixels: libjpeg goes on with whatever it finds, and Pillow says nothing of that. How it goes on
differs from program to program, so that two of them tell."""

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from medseg.volume import Array

FULL_COLOUR = 0  # what Pillow calls the sampling of as many values of colour as of brightness
TOLERANCE = 3  # of values up to 255, for rounding
BRIGHTNESS = (0.299, 0.587, 0.114)  # of red, green and blue (JFIF)


def check_jpeg(path: Path) -> None:
    """Checks that Pillow and ITK decode a JPEG alike, since either goes on with damaged pixels in its own way.

    Raises:
        ValueError: They do not. What Pillow raises comes as it is.
    """
    with Image.open(path, formats=("JPEG",)) as image:
        if image.mode not in ("L", "RGB"):  # ITK makes its own colours of CMYK
            return
        is_exact = image.mode == "L" or get_sampling(image) == FULL_COLOUR
        if not is_exact:  # decoders fill up what is missing of the colours in their own ways
            image.draft("L", image.size)
        ours = np.asarray(image)
    theirs = _by_itk(path)
    if theirs is not None and not (_equal(ours, theirs) if is_exact else _equally_bright(ours, theirs)):
        raise ValueError("its pixels are damaged: two programs make different pictures of it")


def _by_itk(path: Path) -> Array | None:
    """Reads (row, column), or (row, column, colour); None for what ITK does not read."""
    import SimpleITK as sitk  # here, since few inputs are JPEG

    reader = sitk.ImageFileReader()
    reader.SetImageIO("JPEGImageIO")
    reader.SetFileName(str(path))
    try:
        return np.asarray(sitk.GetArrayFromImage(reader.Execute()))
    except RuntimeError:
        return None


def _equal(ours: Array, theirs: Array) -> bool:
    if ours.shape != theirs.shape:
        return False
    return bool((np.maximum(ours, theirs) - np.minimum(ours, theirs) <= TOLERANCE).all())  # neither below 0


def _equally_bright(brightness: Array, colours: Array) -> bool:
    """Says whether colours are as bright as they should be.

    Where a colour was cut off at 0 or 255, its true brightness may lie on the other side of that.
    """
    if colours.shape[:2] != brightness.shape:
        return False
    apart = brightness - colours @ np.array(BRIGHTNESS, dtype=np.float32)
    darker = (apart < -TOLERANCE) & (colours > 0).all(axis=-1)
    brighter = (apart > TOLERANCE) & (colours < 255).all(axis=-1)
    return not (darker | brighter).any()
