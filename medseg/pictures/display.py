"""How voxels become grey: as radiologists look at them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.volume import Array, Geometry, Volume

# Array axes of this orientation are picture axes: the patient's right is on the left of the picture, anterior
# or superior on top.
DISPLAY = "LPI"

# Soft tissue, in HU, for images that hold air of about -1000.
CT_WINDOW = (-160.0, 240.0)
CT_AIR = -700.0


@dataclass(frozen=True)
class Plane:
    """A direction to look in.

    Attributes:
        name: As radiologists say.
        across: The array axis (in ``DISPLAY``) that is looked along.
        column: The array axis of the columns.
        row: The array axis of the rows.
        edges: What lies at the left, right, top and bottom.
    """

    name: str
    across: int
    column: int
    row: int
    edges: tuple[str, str, str, str]


PLANES = (
    Plane("axial", 2, 0, 1, ("R", "L", "A", "P")),
    Plane("coronal", 1, 0, 2, ("R", "L", "S", "I")),
    Plane("sagittal", 0, 1, 2, ("A", "P", "S", "I")),
)


def displayed(volume: Volume) -> Volume:
    """Returns a volume in the orientation ``DISPLAY``; a photograph as it is."""
    return volume if is_photograph(volume.geometry) else volume.oriented_as(DISPLAY)


def is_photograph(grid: Geometry) -> bool:
    """Says whether a grid is that of a picture which lies nowhere in the world: its axes point right and down."""
    return grid.shape[2] == 1 and np.array_equal(grid.affine, np.eye(4))


def window(array: Array) -> tuple[Array, float, float]:
    """Returns which channels of an image to show, and the values that become black and white.

    Args:
        array: ``(channel, x, y, z)``.

    Returns:
        The channels, which are three of an RGB picture and else the first; the value of black; and that of white.
    """
    if len(array) == 3 and array.dtype == np.uint8:
        return array, 0.0, 255.0
    shown = array[:1]
    values = shown[np.isfinite(shown)]
    if values.size == 0:
        return shown, 0.0, 1.0
    if values.min() < CT_AIR:
        return shown, *CT_WINDOW
    low, high = np.percentile(values, (0.5, 99.5))
    return shown, float(low), float(max(high, low + 1e-6))


def grey(array: Array) -> npt.NDArray[np.uint8]:
    """Returns what ``window`` shows of an image, from 0 (black) to 255 (white): ``(channel, x, y, z)``.

    Args:
        array: ``(channel, x, y, z)``. What is no number becomes as if it were 0.
    """
    shown, black, white = window(array)
    levels = (np.nan_to_num(shown.astype(np.float32)) - black) / (white - black)
    return (levels.clip(0, 1) * 255).astype(np.uint8)


def fullest_slice(mask: Array, axis: int) -> int:
    """Returns the index of the slice across an axis that has most of a mask; the middle one where it is empty.

    Args:
        mask: ``(x, y, z)``: all that is not 0.
        axis: The array axis that is looked along.
    """
    counts = np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis}))
    return int(counts.argmax()) if counts.any() else len(counts) // 2
