"""Sheared grids, as some converters write them for CT of a tilted gantry, and the upright grids that stand for them.

Networks and most viewers need right angles. (DICOM of a tilted gantry never comes here: ``medseg.io`` reads it on an
upright grid.)
"""

import numpy as np
from scipy.ndimage import affine_transform

from medseg.volume import Array, Geometry


def upright_grid(geometry: Geometry) -> Geometry:
    """The smallest orthogonal grid over all voxel centres of ``geometry``, with its first axis, its first plane, and
    the distances between its planes."""
    first, second, third = geometry.affine[:3, :3].T
    x = first / np.linalg.norm(first)
    y = _unit(second - (second @ x) * x)
    z = _unit(third - (third @ x) * x - (third @ y) * y)
    axes = np.stack([x, y, z], axis=1)
    spacing = np.array([first @ x, second @ y, third @ z])
    corners = np.array(np.meshgrid(*([0, n - 1] for n in geometry.shape))).reshape(3, 8).T
    # Of the corners, in voxels of the new grid from the first voxel of the old one.
    places = (geometry.world(corners) - geometry.affine[:3, 3]) @ axes / spacing
    low = np.floor(places.min(axis=0) + 1e-6)
    columns, rows, slices = (int(n) for n in np.ceil(places.max(axis=0) - low - 1e-6) + 1)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = geometry.affine[:3, 3] + affine[:3, :3] @ low
    return Geometry((columns, rows, slices), affine)


def label_map_on_grid(label_map: Array, source: Geometry, target: Geometry) -> Array:
    """Labels (x, y, z) on another grid, whatever the axes of the two: each voxel gets the label at its place in the
    world (nearest neighbour, so that values are never mixed), and 0 outside."""
    to_source = np.linalg.inv(source.affine) @ target.affine
    resampled: Array = affine_transform(
        label_map, to_source, output_shape=target.shape, order=0, mode="grid-constant", prefilter=False
    )
    return resampled


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector)
    return unit
