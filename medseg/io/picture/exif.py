"""How a picture is turned before it is shown: the tag Orientation of EXIF and TIFF.

Pictures are read as viewers show them, since that is how people draw label maps on them. A mask is stored as its image
is, with the same tag, so that it lies on its image both for programs that go by the tag and for those that don't.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from medseg.volume import Array

ORIENTATION = 274
UPRIGHT = 1

# Of the stored pixels: are rows and columns swapped, and which of x and y are flipped after that (TIFF 6.0, p. 36).
TURNS = {
    2: (False, (-3,)),
    3: (False, (-3, -2)),
    4: (False, (-2,)),
    5: (True, ()),
    6: (True, (-3,)),
    7: (True, (-3, -2)),
    8: (True, (-2,)),
}


def orientation_in(image: Image.Image) -> int:
    """Returns the orientation of an opened picture, 1 to 8; 1 also for what no program knows."""
    tag = image.getexif().get(ORIENTATION, UPRIGHT)
    return tag if tag in TURNS else UPRIGHT


def orientation_of(picture: Path) -> int:
    """Returns the orientation of a file which Pillow can open; 1 for others."""
    try:
        with Image.open(picture) as image:
            return orientation_in(image)
    except Exception:  # what it cannot open has no orientation that viewers go by
        return UPRIGHT


def as_shown(stored: Array, orientation: int) -> Array:
    """Returns stored pixels as viewers turn them.

    Args:
        stored: ``(…, x, y, z)``.
        orientation: EXIF's, from 1 to 8; any other leaves them as they are.
    """
    swapped, flipped = TURNS.get(orientation, (False, ()))
    return np.flip(stored.swapaxes(-3, -2) if swapped else stored, flipped)


def as_stored(shown: Array, orientation: int) -> Array:
    """Returns pixels that are as viewers show them as they are stored.

    Args:
        shown: ``(…, x, y, z)``.
        orientation: EXIF's, from 1 to 8; any other leaves them as they are.
    """
    swapped, flipped = TURNS.get(orientation, (False, ()))
    stored = np.flip(shown, flipped)
    return stored.swapaxes(-3, -2) if swapped else stored
