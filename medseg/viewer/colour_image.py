"""Pictures: photographs, and three channels of bytes that are colours."""

import numpy as np

from medseg.pictures.display import is_photograph
from medseg.volume import Array, Geometry

MOST_CHANNELS = 3

RGB = np.dtype([("R", np.uint8), ("G", np.uint8), ("B", np.uint8)])  # a voxel, as NIfTI stores it


def is_colour_image(array: Array) -> bool:
    """Says whether an image ``(channel, x, y, z)`` holds colours."""
    return len(array) == MOST_CHANNELS and array.dtype == np.uint8


def colours(array: Array) -> Array:
    """Returns a colour image as ``(x, y, z)`` of ``RGB``."""
    together: Array = np.ascontiguousarray(np.moveaxis(array, 0, -1)).view(RGB)[..., 0]
    return together


def placed_as_seen(grid: Geometry) -> Geometry:
    """Returns the grid of a photograph as it is looked at: to the right is the patient's left, down is posterior.

    So SimpleITK, and with it Slicer, places a PNG. Other grids stay.
    """
    return Geometry(grid.shape, np.diag([-1.0, -1.0, 1.0, 1.0])) if is_photograph(grid) else grid
