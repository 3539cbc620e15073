"""Label maps from one lattice of voxels to another, by their places in the world; values are never mixed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.errors import GeometryError
from medseg.io.dicom.geometry import NUDGE
from medseg.io.dicom.slices import Slices
from medseg.io.segmentation import Segment, some_of, value_counts
from medseg.volume import Array, Geometry, box_of

Lattice = Geometry | Slices

# Voxels by which axes of two grids may diverge, from one end to the other, and still be taken as parallel.
PARALLEL_TOLERANCE = 0.01


def layers_on_grid(
    layers: Sequence[Array], segments: Sequence[Segment], lattice: Lattice, grid: Geometry, path: Path
) -> tuple[tuple[Array, ...], list[str]]:
    """Brings the layers of a segmentation onto a grid, by the places of voxels in the world.

    Args:
        layers: Label maps ``(x, y, z)`` on ``lattice``.
        segments: What their values stand for.
        lattice: Where they lie: a grid, or slices.
        grid: Where they are to lie.
        path: Of the file, for messages.

    Returns:
        The layers on ``grid``, and notes on segments that are too small for it.

    Raises:
        GeometryError: Segments reach out of the grid, or none of them meets a voxel's centre.
    """
    for i, layer in enumerate(layers):
        values, distance = outside(layer, lattice, grid)
        names = [segment.name for segment in segments if segment.layer == i and segment.value in values]
        if names:
            raise GeometryError(
                f"{path}: {some_of(names)} lies up to {distance:.1f} mm outside of the image; was it drawn on this one?"
            )
    placed = tuple(label_map_on_lattice(layer, lattice, grid) for layer in layers)
    lost = _lost(segments, layers, placed)
    if lost and not any(layer.any() for layer in placed):
        raise GeometryError(f"{path}: lies between the slices of the image, on none; was it drawn on this one?")
    return placed, [f"{some_of(lost)}: too small for this grid, left out"] if lost else []


def label_map_on_lattice(label_map: Array, lattice: Lattice, grid: Geometry) -> Array:
    """Brings a label map onto a grid, by the places of voxels in the world.

    Each voxel gets the value of the one that its centre lies in, and 0 outside of the lattice. That is exact where the
    planes of the two coincide.

    Args:
        label_map: ``(x, y, z)`` on ``lattice``.
        lattice: Where it lies: a grid, or slices.
        grid: Where it is to lie.
    """
    if isinstance(lattice, Geometry):
        if lattice.difference(grid) is None:
            return label_map
        parallel = _parallel_index(lattice, grid)
        if parallel is not None:
            return _picked(label_map, *parallel, grid)
    result = np.zeros(grid.shape, dtype=label_map.dtype, order="F")
    x, y = np.meshgrid(np.arange(grid.shape[0]), np.arange(grid.shape[1]), indexing="ij")
    for z in range(grid.shape[2]):
        world = grid.world(np.stack([x, y, np.full_like(x, z)], axis=-1))
        index = np.floor(lattice.index(world) + 0.5 + NUDGE).astype(np.int64)
        inside = ((index >= 0) & (index < label_map.shape)).all(axis=-1)
        result[:, :, z][inside] = label_map[tuple(index[inside].T)]
    return result


def outside(label_map: Array, lattice: Lattice, grid: Geometry) -> tuple[Array, float]:
    """Returns what of a label map lies outside of a grid.

    Args:
        label_map: ``(x, y, z)`` on ``lattice``.
        lattice: Where it lies: a grid, or slices.
        grid: The grid that it may lie outside of.

    Returns:
        The values, background aside, of those voxels that don't even touch the box of ``grid``; and how far outside the
        furthest lies, in mm.
    """
    labelled = np.argwhere(label_map) if _reaches_out(label_map, lattice, grid) else np.empty((0, 3), dtype=int)
    index = grid.index(lattice.world(labelled))
    beyond = np.maximum(-index, index - (np.array(grid.shape) - 1)) - 0.5
    is_outside = (beyond > _half_a_voxel(lattice, grid)).any(axis=1)
    if not is_outside.any():
        return np.empty(0, dtype=label_map.dtype), 0.0
    distance = np.linalg.norm(beyond[is_outside].clip(0) * grid.spacing, axis=1).max()
    return np.unique(label_map[tuple(labelled[is_outside].T)]), float(distance)


def _parallel_index(lattice: Geometry, grid: Geometry) -> tuple[list[int], list[Array]] | None:
    """Returns which axis of the grid runs along each axis of the lattice, and its index at each voxel of that axis.

    None where the two are not parallel.
    """
    affine = np.linalg.inv(lattice.affine) @ grid.affine
    travel = np.abs(affine[:3, :3]) * grid.shape
    axes = [int(axis) for axis in np.abs(affine[:3, :3]).argmax(axis=1)]
    across = travel.copy()
    across[np.arange(3), axes] = 0
    if sorted(axes) != [0, 1, 2] or across.max() > PARALLEL_TOLERANCE:
        return None
    index = [
        np.floor(affine[i, axis] * np.arange(grid.shape[axis]) + affine[i, 3] + 0.5 + NUDGE).astype(np.int64)
        for i, axis in enumerate(axes)
    ]
    return axes, index


def _picked(label_map: Array, axes: list[int], index: list[Array], grid: Geometry) -> Array:
    inside = [(of_axis >= 0) & (of_axis < n) for of_axis, n in zip(index, label_map.shape, strict=True)]
    values = label_map[np.ix_(*(of_axis[i] for of_axis, i in zip(index, inside, strict=True)))]
    order = np.argsort(axes)
    result = np.zeros(grid.shape, dtype=label_map.dtype, order="F")
    result[np.ix_(*(np.flatnonzero(inside[i]) for i in order))] = values.transpose(order)
    return result


def _reaches_out(label_map: Array, lattice: Lattice, grid: Geometry) -> bool:
    """Says whether the box around all labelled voxels reaches out of the grid, which is quick to tell."""
    box = box_of(label_map)
    if box is None:
        return False
    x, y = ([part.start, part.stop - 1] for part in box[:2])
    corners = np.stack(np.meshgrid(x, y, np.arange(box[2].start, box[2].stop), indexing="ij"), axis=-1)
    index = grid.index(lattice.world(corners))
    return bool(((index < -0.5) | (index > np.array(grid.shape) - 0.5)).any())


def _half_a_voxel(lattice: Lattice, grid: Geometry) -> Array:
    """Returns half a voxel of the lattice along each axis of the grid, in voxels of the grid."""
    edges = lattice.world(np.eye(3, dtype=int)[:2]) - lattice.world((0, 0, 0))
    half: Array = np.abs(edges @ np.linalg.inv(grid.affine)[:3, :3].T).max(axis=0) / 2
    return half


def _lost(segments: Sequence[Segment], before: Sequence[Array], after: Sequence[Array]) -> list[str]:
    """Returns the names of the segments that had voxels and have none any more."""
    if all(a is b for a, b in zip(after, before, strict=True)):
        return []
    had, has = ([set(np.flatnonzero(value_counts(layer))) for layer in layers] for layers in (before, after))
    return [s.name for s in segments if s.value in had[s.layer] and s.value not in has[s.layer]]
