"""What a user says of an object: points, boxes, scribbles and lassos, in voxel indices of an image."""

from dataclasses import dataclass

import numpy as np

from medseg.interactive.bounds import Bounds
from medseg.volume import Array


@dataclass(frozen=True)
class Point:
    """A voxel inside of the object, or outside of it.

    Attributes:
        index: Its index (i, j, k).
        positive: Whether it belongs to the object.

    Examples:
        >>> Point((12, 40, 7), positive=False).index
        (12, 40, 7)
    """

    index: tuple[float, float, float]
    positive: bool = True


@dataclass(frozen=True)
class Box:
    """A box that holds the object, or something that is not part of it.

    Attributes:
        bounds: First and last index along each axis; the last one is excluded. An axis of one voxel: a box on a slice,
            which holds what there is of the object on that slice.
        positive: Whether it holds the object.

    Examples:
        >>> Box(((10, 20), (10, 24), (7, 8))).positive
        True
    """

    bounds: Bounds
    positive: bool = True


@dataclass(frozen=True, eq=False)
class Scribble:
    """Voxels that were drawn over, all of them inside of the object, or all outside.

    Attributes:
        voxels: Their indices, ``(voxel, 3)``.
        positive: Whether they belong to the object.

    Examples:
        >>> mask = np.zeros((4, 4, 4), dtype=bool)
        >>> mask[1, 1:3, 2] = True
        >>> Scribble(voxels_of(mask, origin=(10, 0, 0))).voxels.tolist()
        [[11, 1, 2], [11, 2, 2]]
    """

    voxels: Array
    positive: bool = True


@dataclass(frozen=True, eq=False)
class Lasso:
    """A filled outline, mostly on one slice, that holds the object or something that is not part of it: a closer box.

    Attributes:
        voxels: The indices of all voxels within, ``(voxel, 3)``.
        positive: Whether it holds the object.

    Examples:
        >>> Lasso(voxels_of(np.ones((2, 2, 1), dtype=bool))).voxels.shape
        (4, 3)
    """

    voxels: Array
    positive: bool = True


Prompt = Point | Box | Scribble | Lasso


def voxels_of(mask: Array, origin: tuple[int, int, int] = (0, 0, 0)) -> Array:
    """Returns the indices of the voxels of a mask, int64 ``(voxel, 3)``.

    Args:
        mask: Bool ``(x, y, z)``: of an image, or of a part of it.
        origin: The index of its first voxel in the image.

    Examples:
        >>> voxels_of(np.ones((1, 1, 1), dtype=bool), origin=(3, 4, 5)).tolist()
        [[3, 4, 5]]
    """
    voxels: Array = np.argwhere(mask) + np.asarray(origin)
    return voxels
