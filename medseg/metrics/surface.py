"""How far the surfaces of two masks lie apart: Hausdorff and average surface distance, and the surface Dice.

Masks are boolean arrays ``(x, y, z)`` of one shape, spacing is in mm per axis. Axes of one voxel are no
direction in which a surface can lie: an image with z = 1 is measured as a 2D image, along its contours. What
lies on the border of the array ends there, so a surface runs along the border too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import edt
import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from medseg.metrics.masks import Mask, MaskLike, Spacing, checked_in_space
from medseg.metrics.points import Points
from medseg.volume import Spacing3

Distances = npt.NDArray[np.float32]

# Headers store spacings as float32: 1.0000001 mm is within a tolerance of 1 mm. In parts of the smallest
# voxel edge.
DISTANCE_ROUNDING = 1e-4

# So many voxels are searched for surfaces at a time, and so many points of them for the nearest other.
SLAB_VOXELS = 2**22
QUERY_POINTS = 2**18

# A distance map costs as much as a search tree of so many points: a tenth of its voxels, and some for its start.
# Measured from 24³ to 300³ voxels.
POINTS_PER_VOXEL = 1 / 10
POINTS_PER_MAP = 2000


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm from each edge voxel of one mask to the nearest edge voxel of the other, both ways.

    Edge voxels are those of the mask that have a face in common with a voxel outside, as in MONAI and SimpleITK
    (``BinaryContour``).

    Attributes:
        to_reference: From the edge voxels of the prediction, float32 ``(edge voxel,)``.
        to_prediction: From the edge voxels of the reference, float32 ``(edge voxel,)``.
    """

    to_reference: Distances
    to_prediction: Distances

    @property
    def hd_mm(self) -> float:
        """The largest of all distances (Hausdorff 1914)."""
        return float(max(self.to_reference.max(), self.to_prediction.max()))

    @property
    def hd95_mm(self) -> float:
        """The larger of the two directed 95th percentiles, linearly interpolated.

        As ``monai.metrics.compute_hausdorff_distance(percentile=95)``. Source: Huttenlocher et al. 1993; for the choice
        of percentile and direction: Maier-Hein et al., Metrics Reloaded, Nature Methods 2024.
        """
        return float(max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95)))

    @property
    def assd_mm(self) -> float:
        """The average symmetric surface distance: the mean over all distances of both directions together.

        As ``monai.metrics.compute_average_surface_distance(symmetric=True)``. Source: Heimann et al. 2009.
        """
        total = self.to_reference.sum(dtype=np.float64) + self.to_prediction.sum(dtype=np.float64)
        return float(total / (self.to_reference.size + self.to_prediction.size))


def surface_distances(prediction: MaskLike, reference: MaskLike, spacing: Spacing) -> SurfaceDistances | None:
    """Returns the distances between the edge voxels of two masks, from which ``hd``, ``hd95`` and ``assd`` follow.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or ``(x, y)``; an array or a tensor.
        reference: The reference, of the same shape.
        spacing: Edges of a voxel in mm, in array-axis order; or one number for all axes.

    Returns:
        Distances in mm, in both directions; None when a mask is empty.

    Raises:
        ValueError: When the shapes differ, one is no mask, or the spacing does not fit.
    """
    predicted_mask, reference_mask, edges = checked_in_space(prediction, reference, spacing)
    if not predicted_mask.any() or not reference_mask.any():
        return None
    predicted, referred = _edge_voxels(predicted_mask), _edge_voxels(reference_mask)
    return SurfaceDistances(_distances(predicted, referred, edges), _distances(referred, predicted, edges))


def hd(prediction: MaskLike, reference: MaskLike, spacing: Spacing) -> float | None:
    """Returns the Hausdorff distance: the largest distance from an edge voxel of either mask to the other's edge.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or ``(x, y)``; an array or a tensor.
        reference: The reference, of the same shape.
        spacing: Edges of a voxel in mm, in array-axis order; or one number for all axes.

    Returns:
        Millimetres, 0 or more; None when a mask is empty.

    Raises:
        ValueError: When the shapes differ, one is no mask, or the spacing does not fit.

    Source: F. Hausdorff, Grundzüge der Mengenlehre, 1914. As ``monai.metrics.compute_hausdorff_distance``.
    """
    distances = surface_distances(prediction, reference, spacing)
    return None if distances is None else distances.hd_mm


def hd95(prediction: MaskLike, reference: MaskLike, spacing: Spacing) -> float | None:
    """Returns the 95th percentile Hausdorff distance: the larger of both directions, linearly interpolated.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or ``(x, y)``; an array or a tensor.
        reference: The reference, of the same shape.
        spacing: Edges of a voxel in mm, in array-axis order; or one number for all axes.

    Returns:
        Millimetres, 0 or more; None when a mask is empty.

    Raises:
        ValueError: When the shapes differ, one is no mask, or the spacing does not fit.

    Source: D. P. Huttenlocher et al., Comparing images using the Hausdorff distance, TPAMI 1993; L. Maier-Hein et al.,
    Metrics Reloaded, Nature Methods 2024. As ``monai.metrics.compute_hausdorff_distance(percentile=95)``.
    """
    distances = surface_distances(prediction, reference, spacing)
    return None if distances is None else distances.hd95_mm


def assd(prediction: MaskLike, reference: MaskLike, spacing: Spacing) -> float | None:
    """Returns the average symmetric surface distance: the mean over all edge voxels of both masks.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or ``(x, y)``; an array or a tensor.
        reference: The reference, of the same shape.
        spacing: Edges of a voxel in mm, in array-axis order; or one number for all axes.

    Returns:
        Millimetres, 0 or more; None when a mask is empty.

    Raises:
        ValueError: When the shapes differ, one is no mask, or the spacing does not fit.

    Source: T. Heimann et al., Comparison and evaluation of methods for liver segmentation from CT datasets, TMI 2009.
    As ``monai.metrics.compute_average_surface_distance(symmetric=True)``.
    """
    distances = surface_distances(prediction, reference, spacing)
    return None if distances is None else distances.assd_mm


def surface_dice(prediction: MaskLike, reference: MaskLike, spacing: Spacing, tolerance_mm: float) -> float | None:
    """Returns the surface Dice: the part of both surfaces that lies within a tolerance of the other one.

    It is also called normalized surface distance (NSD). Surface elements are weighted by their area, in images of one
    slice by their length. The values are those of the authors' ``surface-distance`` and of
    ``monai.metrics.compute_surface_dice(use_subvoxels=True)``.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or ``(x, y)``; an array or a tensor.
        reference: The reference, of the same shape.
        spacing: Edges of a voxel in mm, in array-axis order; or one number for all axes.
        tolerance_mm: Surfaces this close count as the same. MONAI calls it ``class_thresholds``, one a channel.

    Returns:
        From 0 to 1; 0 when one mask is empty, None when both are.

    Raises:
        ValueError: When the shapes differ, one is no mask, or the spacing does not fit.

    Source: S. Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck anatomy,
    2018 (arXiv:1809.04430; JMIR 2021).
    """
    predicted_mask, reference_mask, edges = checked_in_space(prediction, reference, spacing)
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm {tolerance_mm}: give 0 or more")
    limit = tolerance_mm + DISTANCE_ROUNDING * min(edges)
    predicted, referred = _surface_elements(predicted_mask), _surface_elements(reference_mask)
    total = within = 0.0
    for (points, codes), (others, _) in ((predicted, referred), (referred, predicted)):
        near = _distances(points, others, edges, limit) <= limit
        areas = _element_areas(edges)[codes]
        total += float(areas.sum(dtype=np.float64))
        within += float(areas[near].sum(dtype=np.float64))
    return within / total if total else None


def _edge_voxels(mask: Mask) -> Points:
    """Returns the voxels that share a face with a voxel outside of the mask."""
    found = []
    for first, end in _slabs(mask.shape[0], mask[0].size):
        before = max(first - 1, 0)  # one layer more on each side, which decides on those between
        edges = _edges(mask[before : end + 1])[first - before : end - before]
        found.append(np.flatnonzero(edges) + first * mask[0].size)
    return Points(mask.shape, np.concatenate(found))


def _edges(mask: Mask) -> Mask:
    inside = mask.copy()
    for axis, n in enumerate(mask.shape):
        if n > 1:
            layers, neighbours = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
            layers[1:] &= neighbours[:-1]
            layers[:-1] &= neighbours[1:]
            layers[[0, -1]] = False
    return mask ^ inside


def _surface_elements(mask: Mask) -> tuple[Points, npt.NDArray[np.uint8]]:
    """Returns the points between eight voxels where a surface is, and which of the eight are in the mask, as a bit
    each.

    The points are one more than the voxels along each axis.
    """
    x, y, z = shape = tuple(n + 1 if n > 1 else 1 for n in mask.shape)
    found, codes = [], []
    for first, end in _slabs(x, y * z):
        layers = mask[max(first - 1, 0) : end]
        code = _codes(np.pad(layers, ((first == 0, end >= mask.shape[0] + (x > 1)), (1, 1), (1, 1))), mask.shape)
        points = np.flatnonzero(code)
        found.append(points + first * y * z)
        codes.append(code.ravel()[points])
    return Points(shape, np.concatenate(found)), np.concatenate(codes)


def _codes(padded: Mask, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Returns for each point between the voxels of a part of a mask which are in it; 0 where no surface is."""
    code = padded.view(np.uint8)
    for axis, (bits, n) in enumerate(zip((4, 2, 1), shape, strict=True)):
        if n == 1:  # no surface across this axis: all layers are the same
            code = code.take([1, 1], axis)
        layers = np.moveaxis(code, axis, 0)
        code = np.moveaxis(np.bitwise_or(layers[:-1], np.left_shift(layers[1:], bits)), 0, axis)
    code[code == 255] = 0
    return code


def _slabs(n_layers: int, layer_size: int) -> Iterator[tuple[int, int]]:
    """Yields first and end of the layers along the first axis that are worked on at a time.

    So large masks cost no more memory than small ones.
    """
    step = max(1, SLAB_VOXELS // max(layer_size, 1))
    for first in range(0, n_layers, step):
        yield first, min(first + step, n_layers)


@lru_cache(maxsize=64)
def _element_areas(spacing: Spacing3) -> npt.NDArray[np.float32]:
    """Returns the area in mm² of the surface between eight voxels, for the 256 ways in which a mask can hold them.

    The triangles are those of marching cubes (Lorensen and Cline 1987). Of a pattern and its complement the smaller
    surface counts, so that a mask and its inverse have one surface; that gives the table of ``surface-distance``.
    """
    from skimage.measure import marching_cubes, mesh_surface_area  # takes long to import

    areas = np.zeros(256)
    for code in range(1, 255):
        cube = np.reshape([code >> bit & 1 for bit in range(8)], (2, 2, 2)).astype(np.float32)
        vertices, faces, _, _ = marching_cubes(cube, 0.5, spacing=spacing, method="lorensen")
        areas[code] = mesh_surface_area(vertices, faces)
    return np.minimum(areas, areas[::-1]).astype(np.float32)


def _distances(points: Points, others: Points, spacing: Spacing3, limit: float = np.inf) -> Distances:
    """Returns the distance from each of the points to the nearest of the others, in mm; beyond ``limit`` it may be
    infinite.

    Surfaces are few points in much space, which a search tree is fast at; for masks like noise, a distance map is.
    """
    if not others.at.size:
        return np.full(points.at.size, np.inf, dtype=np.float32)
    apart = ~points.among(others)  # the rest lies on the other surface
    if np.count_nonzero(apart) + others.at.size > POINTS_PER_VOXEL * np.prod(points.shape) + POINTS_PER_MAP:
        return _mapped(points, others, spacing)
    # Trees that are neither balanced nor tight are built in half the time, and as fast to search here.
    tree = KDTree(others.mm(spacing), leafsize=32, balanced_tree=False, compact_nodes=False)
    distances = np.zeros(points.at.size, dtype=np.float32)
    far = points.part(apart)
    parts = [slice(i, i + QUERY_POINTS) for i in range(0, far.at.size, QUERY_POINTS)]
    found = [tree.query(far.part(part).mm(spacing), distance_upper_bound=limit)[0] for part in parts]
    distances[apart] = np.concatenate(found) if found else 0
    return distances


def _mapped(points: Points, others: Points, spacing: Spacing3) -> Distances:
    outside = np.ones(points.shape, dtype=bool)
    outside.ravel()[others.at] = False
    mapped: Distances = edt.edt(outside, anisotropy=spacing).ravel()[points.at]
    return mapped
