"""Surfaces of labels in NiiVue's own format, MZ3 (https://github.com/neurolabusc/surf-ice/tree/master/mz3)."""

import struct

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from medseg.volume import Array, Geometry

MAGIC = 0x5A4D
FACES_AND_VERTICES = 3

SMOOTHING = 0.8  # voxels
MARGIN = 0.1  # that the smoothed mask keeps from one half: all voxel centres stay on their side of the surface


def mz3(mask: Array, grid: Geometry) -> bytes:
    """The surface of a mask (x, y, z; not empty) in RAS mm."""
    box = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    cut = np.pad(mask[tuple(slice(first, last + 1) for first, last in box)], 1)
    smooth = gaussian_filter(cut.astype(np.float32), SMOOTHING, mode="constant")
    field = np.where(cut, np.maximum(smooth, 0.5 + MARGIN), np.minimum(smooth, 0.5 - MARGIN))
    vertices, faces, _, _ = marching_cubes(field, 0.5, gradient_direction="ascent")
    vertices = grid.world(vertices + [first - 1 for first, _ in box])
    if np.linalg.det(grid.affine[:3, :3]) < 0:
        faces = faces[:, ::-1]
    header = struct.pack("<HHIII", MAGIC, FACES_AND_VERTICES, len(faces), len(vertices), 0)
    content: bytes = header + faces.astype("<i4").tobytes() + vertices.astype("<f4").tobytes()
    return content
