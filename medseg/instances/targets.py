"""What a network learns of objects beside their label: maps that tell neighbours apart, made of whole cases."""

from collections.abc import Sequence
from typing import Literal

import cc3d
import edt
import numpy as np

from medseg.dataset.prepared_arrays import FULL
from medseg.plan import TargetKind
from medseg.volume import Array, Spacing3

BORDER_VOXELS = 1.5  # of "core"


def object_targets(
    object_map: Array, spacing: Spacing3, kinds: Sequence[TargetKind], slice_axis: int | None = None
) -> Array:
    """Returns what a network learns of the objects of a whole case, as bytes: 255 stands for 1.

    "distance" is how deep a voxel lies in its object: the distance to the nearest voxel of something else in mm, as
    part of the largest one of this object (deep watershed, Bai and Urtasun 2017, arXiv:1611.08303, with a regression).
    It goes from nearly 0 at the border to 1, is the same for small objects and for large ones, and does not change
    where an image is rotated or scaled. "core" is 1 but for a border of a voxel and a half, along each axis in its own
    voxels, so that thick slices part objects too (the border–core representation of ParticleSeg3D, Gotkowski et al.
    2024). Outside of objects both are 0.

    Where the edge of the image cuts an object, that is no border. Pieces of one object that don't touch are taken for
    objects of their own: nothing in the image says that they belong together.

    Args:
        object_map: ``(x, y, z)``, whole numbers: 0 is the background.
        spacing: Edges of a voxel in mm.
        kinds: Of the maps, in their order.
        slice_axis: The axis that a 2D network doesn't see: each slice is then taken by itself. None in 3D.

    Returns:
        ``(kind, x, y, z)``, uint8.

    Examples:
        >>> import numpy as np
        >>> objects = np.zeros((9, 1, 1), np.uint16)
        >>> objects[1:6], objects[6:8] = 1, 2  # they touch
        >>> object_targets(objects, (1.0, 1.0, 1.0), ["distance"])[0, :, 0, 0].tolist()
        [0, 51, 153, 255, 153, 51, 255, 255, 0]
    """
    targets = np.zeros((len(kinds), *object_map.shape), np.uint8)
    if slice_axis is None:
        _fill(targets, object_map, spacing, kinds)
        return targets
    seen = [mm for axis, mm in enumerate(spacing) if axis != slice_axis]
    slices = np.moveaxis(targets, slice_axis + 1, 0)
    for target, objects in zip(slices, np.moveaxis(object_map, slice_axis, 0), strict=True):
        _fill(target, objects, seen, kinds)
    return targets


def _fill(targets: Array, object_map: Array, spacing: Sequence[float], kinds: Sequence[TargetKind]) -> None:
    """Writes the targets of an image of two or three axes into ``targets``, ``(kind, *spatial)``."""
    if not object_map.any():
        return
    touching: Literal[8, 26] = 26 if object_map.ndim == 3 else 8  # with diagonal neighbours
    pieces = cc3d.connected_components(_as_unsigned(object_map), connectivity=touching)
    for target, kind in zip(targets, kinds, strict=True):
        if kind == "distance":
            made = _relative(edt.edt(pieces, anisotropy=tuple(spacing)), pieces, min(spacing))
        else:
            made = edt.edt(pieces) > BORDER_VOXELS
        target[:] = np.rint(made * FULL) * (pieces != 0)


def _as_unsigned(object_map: Array) -> Array:
    """Returns the map in a type that cc3d takes: ids only have to differ."""
    return np.ascontiguousarray(object_map, np.uint32)


def _relative(depth: Array, pieces: Array, voxel: float) -> Array:
    """Returns the depth from the face of the outermost voxel on, as part of the largest one of the piece."""
    inside = np.where(np.isfinite(depth), depth - voxel / 2, 1)  # one object that fills everything has no border
    deepest = np.zeros(int(pieces.max()) + 1, inside.dtype)
    np.maximum.at(deepest, pieces.ravel(), inside.ravel())
    return np.asarray(np.clip(inside / np.maximum(deepest, voxel / 2)[pieces], 0, 1))
