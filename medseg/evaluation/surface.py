"""How far the surfaces of two masks lie apart: the 95th percentile Hausdorff distance and the surface Dice.

Masks are boolean arrays ``(x, y, z)`` of one shape, spacing is in mm per axis. Axes of one voxel are no
direction in which a surface can lie: an image with z = 1 is measured as a 2D image, along its contours. What
lies on the border of the array ends there, so a surface runs along the border too.
"""

from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial import KDTree
from skimage.measure import marching_cubes, mesh_surface_area

from medseg.volume import Spacing3

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]
Distances = npt.NDArray[np.float64]

# Headers store spacings as float32: 1.0000001 mm is within a tolerance of 1 mm. In parts of the smallest
# voxel edge.
DISTANCE_ROUNDING = 1e-4


def hausdorff95_mm(prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
    """The larger of the two directed 95th percentile Hausdorff distances in mm; None when a mask is empty.

    A surface is the set of the mask's voxels that have a face in common with a voxel outside. For each of
    them the distance to the nearest surface voxel of the other mask is taken, then the 95th percentile
    (linearly interpolated) in either direction, as
    ``monai.metrics.compute_hausdorff_distance(percentile=95)`` does. Huttenlocher et al. 1993; for the choice
    of percentile and direction: Maier-Hein et al., Metrics Reloaded, Nature Methods 2024.
    """
    if not prediction.any() or not reference.any():
        return None
    predicted, referred = _edge_voxels(prediction, spacing), _edge_voxels(reference, spacing)
    to_reference, _ = KDTree(referred).query(predicted)
    to_prediction, _ = KDTree(predicted).query(referred)
    return float(max(np.percentile(to_reference, 95), np.percentile(to_prediction, 95)))


def surface_dice(prediction: Mask, reference: Mask, spacing: Spacing3, tolerance_mm: float) -> float | None:
    """The part of both surfaces within ``tolerance_mm`` of the other one; None when both masks are empty.

    Surface elements are weighted by their area (2D: contour elements by their length), as in Nikolov et al.,
    Deep learning to achieve clinically applicable segmentation of head and neck anatomy, 2018
    (arXiv:1809.04430; JMIR 2021), and in the authors' ``surface-distance``. Also called normalised surface
    distance (NSD).
    """
    elements, areas = _surface_elements(prediction, spacing)
    others, other_areas = _surface_elements(reference, spacing)
    total = areas.sum() + other_areas.sum()
    if total == 0:
        return None
    limit = tolerance_mm + DISTANCE_ROUNDING * min(spacing)
    within = areas[_is_near(elements, others, limit)].sum() + other_areas[_is_near(others, elements, limit)].sum()
    return float(within / total)


def _edge_voxels(mask: Mask, spacing: Spacing3) -> Points:
    """Centres in mm, ``(n, 3)``, of the voxels that share a face with a voxel outside of the mask."""
    faces = generate_binary_structure(3, 1)
    for axis, n in enumerate(mask.shape):
        if n == 1:
            faces = faces.take([1], axis=axis)
    edge = np.argwhere(mask & ~binary_erosion(mask, faces))
    return edge.astype(np.float64) * spacing


def _surface_elements(mask: Mask, spacing: Spacing3) -> tuple[Points, npt.NDArray[np.float64]]:
    """Points between voxels that the surface goes through, ``(n, 3)`` in mm, and its area at each in mm²."""
    padded = np.pad(mask, 1)
    for axis, n in enumerate(mask.shape):
        if n == 1:  # no surface across this axis: all layers are the same
            padded = padded.take([1, 1], axis=axis)
    code = np.zeros([n - 1 for n in padded.shape], dtype=np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=3)):
        code |= padded[tuple(slice(c, c + n) for c, n in zip(corner, code.shape, strict=True))].astype(np.uint8) << bit
    index = np.nonzero((code != 0) & (code != 255))
    return np.stack(index, axis=1) * np.asarray(spacing), _element_areas(spacing)[code[index]]


@lru_cache(maxsize=64)
def _element_areas(spacing: Spacing3) -> npt.NDArray[np.float64]:
    """Area in mm² of the surface between eight voxels, for the 256 ways in which a mask can hold them.

    The triangles are those of marching cubes (Lorensen and Cline 1987). Of a pattern and its complement the
    smaller surface counts, so that a mask and its inverse have one surface; that gives the table of
    ``surface-distance``.
    """
    areas = np.zeros(256)
    for code in range(1, 255):
        cube = np.reshape([code >> bit & 1 for bit in range(8)], (2, 2, 2)).astype(np.float32)
        vertices, faces, _, _ = marching_cubes(cube, 0.5, spacing=spacing, method="lorensen")
        areas[code] = mesh_surface_area(vertices, faces)
    return np.minimum(areas, areas[::-1])


def _is_near(points: Points, others: Points, limit_mm: float) -> Mask:
    """Which ``points`` have one of ``others`` closer than the limit."""
    if len(points) == 0 or len(others) == 0:
        return np.zeros(len(points), dtype=bool)
    distances: Distances = KDTree(others).query(points, distance_upper_bound=limit_mm)[0]
    return np.isfinite(distances)
