"""Colour pictures: three channels of bytes."""

import numpy as np

from medseg.volume import Array

MOST_CHANNELS = 3

RGB = np.dtype([("R", np.uint8), ("G", np.uint8), ("B", np.uint8)])  # a voxel, as NIfTI stores it


def is_picture(array: Array) -> bool:
    """Of an image (channel, x, y, z)."""
    return len(array) == MOST_CHANNELS and array.dtype == np.uint8


def colours(array: Array) -> Array:
    """(x, y, z) of ``RGB``."""
    together: Array = np.ascontiguousarray(np.moveaxis(array, 0, -1)).view(RGB)[..., 0]
    return together
