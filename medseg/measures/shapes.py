"""How large, how long and how bright numbered parts of an image are: objects, or structures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import cc3d
import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError, SphericalVoronoi
from scipy.spatial.distance import pdist

from medseg.volume import Array, Geometry, Spacing3, Volume

Floats = npt.NDArray[np.float64]

HULL_FROM = 64  # points: of fewer all distances are looked at


@dataclass(frozen=True)
class Shapes:
    """What was measured of numbered parts of an image, in the order of their numbers.

    Attributes:
        voxels: How many each has, ``(n,)``.
        centroids_mm: Where their voxels lie on average, ``(n, 3)``, in RAS mm; NaN where there is none.
        sizes: Their volumes in mm³; in an image of one slice their areas in mm², ``(n,)``.
        boundaries: The areas of their surfaces in mm²; in an image of one slice the lengths of their edges in mm.
        longest_diameters_mm: The largest distance between the centres of two of their voxels.
        at_border: Whether they have a voxel at the border of the image, so that a part of them may not be seen.
        means: Of the values of the image in them, ``(channel, n)``; no channel without an image.
        deviations: Their standard deviations.
    """

    voxels: Array
    centroids_mm: Floats
    sizes: Floats
    boundaries: Floats
    longest_diameters_mm: Floats
    at_border: Array
    means: Floats
    deviations: Floats


def measure_shapes(array: Array, n: int, geometry: Geometry, image: Volume | None = None) -> Shapes:
    """Measures numbered parts of an image.

    Surfaces are measured by Crofton's formula: by how often lines of 13 directions (4 in an image of one slice) pass
    from a part into something else, each direction by the part of all directions that are nearest to it.

    Args:
        array: ``(x, y, z)``: the number of the part of each voxel, from 1 to ``n``, or 0.
        n: How many parts there are; some may have no voxel.
        geometry: The grid.
        image: Whose values are measured, on the same grid; None measures none.

    Source: Lehmann and Legland 2012, Efficient N-dimensional surface estimation using Crofton formula and run-length
        encoding, Insight Journal.

    Example:
        >>> import numpy as np
        >>> from medseg.measures.shapes import measure_shapes
        >>> from medseg.volume import Geometry
        >>> array = np.zeros((9, 9, 9), np.int32)
        >>> array[2:5, 2:5, 2:5] = 1
        >>> shapes = measure_shapes(array, 1, Geometry(array.shape, np.diag([1, 1, 2, 1])))
        >>> shapes.sizes.tolist(), shapes.centroids_mm.tolist()
        ([54.0], [[3.0, 3.0, 6.0]])
    """
    spacing, is_flat = geometry.spacing, array.shape[2] == 1
    box = _around(array)
    part = np.ascontiguousarray(array[box])
    statistics = cc3d.statistics(part.astype(np.uint32))
    voxels = _filled(np.asarray(statistics["voxel_counts"])[1:], n)
    centroids = np.full((n, 3), np.nan)
    found = np.asarray(statistics["centroids"])[1:]
    centroids[: len(found)] = found + [each.start for each in box]
    centroids[voxels == 0] = np.nan
    means, deviations = _values(part, n, voxels, None if image is None else image.array[(slice(None), *box)])
    return Shapes(
        voxels=voxels,
        centroids_mm=geometry.world(centroids) if n else centroids,
        sizes=voxels * spacing[0] * spacing[1] * (1 if is_flat else spacing[2]),
        boundaries=_boundaries(part, n, spacing),
        longest_diameters_mm=_diameters(part, n, spacing),
        at_border=_at_border(array, n),
        means=means,
        deviations=deviations,
    )


def _around(array: Array) -> tuple[slice, slice, slice]:
    """Returns a box with all parts, and a voxel of what is beside them where there is one."""
    box = []
    for axis, length in enumerate(array.shape):
        inside = np.flatnonzero(array.any(axis=tuple({0, 1, 2} - {axis})))
        first, end = (int(inside[0]) - 1, int(inside[-1]) + 2) if len(inside) else (0, 1)
        box.append(slice(max(first, 0), min(end, length)))
    return box[0], box[1], box[2]


def _filled(counts: Array, n: int) -> Array:
    filled = np.zeros(n, np.int64)
    filled[: len(counts)] = counts
    return filled


def _directions(is_flat: bool) -> list[tuple[int, int, int]]:
    """Returns the steps to neighbours, one of each opposite pair."""
    steps = product((-1, 0, 1), (-1, 0, 1), (0,) if is_flat else (-1, 0, 1))
    return [(x, y, z) for x, y, z in steps if (x, y, z) > (0, 0, 0)]


def _weights(steps: Sequence[tuple[int, int, int]], spacing: Spacing3, is_flat: bool) -> Floats:
    """Returns the part of all directions that are nearest to each of the steps, or to its opposite."""
    vectors = np.array(steps) * spacing
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if is_flat:
        angles = np.sort(np.arctan2(units[:, 1], units[:, 0]) % np.pi)
        order = np.argsort(np.arctan2(units[:, 1], units[:, 0]) % np.pi)
        gaps = np.diff(angles, append=angles[0] + np.pi)
        weights = np.empty(len(steps))
        weights[order] = (gaps + np.roll(gaps, 1)) / 2 / np.pi
        return weights
    areas = SphericalVoronoi(np.concatenate([units, -units])).calculate_areas()
    both: Floats = (areas[: len(steps)] + areas[len(steps) :]) / areas.sum()
    return both


def _boundaries(array: Array, n: int, spacing: Spacing3) -> Floats:
    """Returns the surface, or in one slice the length of the edge, of each object by Crofton's formula."""
    is_flat = array.shape[2] == 1
    steps = _directions(is_flat)
    sizes = spacing[:2] if is_flat else spacing
    total = np.zeros(n)
    for step, weight in zip(steps, _weights(steps, spacing, is_flat), strict=True):
        between = float(np.prod(sizes) / np.linalg.norm(np.multiply(step, spacing)))  # of lines in this direction
        total += weight * between * _passages(array, n, step)
    return total * (np.pi / 2 if is_flat else 2)


def _passages(array: Array, n: int, step: tuple[int, int, int]) -> Array:
    """Returns how often lines in one direction pass between each object and something else."""
    here = tuple(slice(max(-each, 0), length - max(each, 0)) for each, length in zip(step, array.shape, strict=True))
    there = tuple(slice(max(each, 0), length - max(-each, 0)) for each, length in zip(step, array.shape, strict=True))
    one, other = array[here], array[there]
    differs = one != other
    passages = sum(np.bincount(each[differs], minlength=n + 1) for each in (one, other))
    for kept in (here, there):  # lines that leave the image
        outside = np.ones(array.shape, bool)
        outside[kept] = False
        passages = passages + np.bincount(array[outside], minlength=n + 1)
    found: Array = np.asarray(passages)[1:]
    return found


def _surface_voxels(array: Array) -> Iterator[tuple[int, Array]]:
    """Yields each object with the places ``(n, 3)`` of its voxels that have something else beside them."""
    inner = array > 0
    for axis in range(3):
        if array.shape[axis] == 1:
            continue
        same = np.diff(array, axis=axis) == 0
        ends = [(0, 0)] * 3
        ends[axis] = (1, 0)
        inner &= np.pad(same, ends)
        ends[axis] = (0, 1)
        inner &= np.pad(same, ends)
    places = np.argwhere((array > 0) & ~inner)
    numbers = array[tuple(places.T)]
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    if len(found):
        yield from zip(found.tolist(), np.split(places[order], starts[1:]), strict=True)


def _diameters(array: Array, n: int, spacing: Spacing3) -> Floats:
    diameters = np.zeros(n)
    for number, places in _surface_voxels(array):
        diameters[number - 1] = pdist(hull(places * spacing)).max(initial=0)
    return diameters


def hull(points: Floats) -> Floats:
    """Returns the corners of the convex hull of points, or of the plane or line that they lie in.

    Args:
        points: ``(n, dimension)``; of few of them all are returned.
    """
    if len(points) < HULL_FROM:
        return points
    spread = points - points.mean(axis=0)
    _, strengths, axes = np.linalg.svd(spread, full_matrices=False)
    kept = strengths > 1e-9 * strengths[0]
    if kept.sum() == 1:
        along = spread @ axes[0]
        return points[[along.argmin(), along.argmax()]]
    try:
        return points[ConvexHull(spread @ axes[kept].T).vertices]
    except QhullError:
        return points


def _at_border(array: Array, n: int) -> Array:
    touches = np.zeros(n + 1, bool)
    for axis in range(3):
        if array.shape[axis] > 1:
            for end in (0, -1):
                touches[np.unique(array.take(end, axis))] = True
    return touches[1:]


def _values(array: Array, n: int, counts: Array, image: Array | None) -> tuple[Floats, Floats]:
    """Returns mean and deviation of the values in each object, ``(channel, object)``."""
    if image is None:
        return np.zeros((0, n)), np.zeros((0, n))
    inside = array > 0
    numbers = array[inside]
    means, deviations = [], []
    for channel in image:
        values = channel[inside].astype(np.float64)
        with np.errstate(invalid="ignore"):  # parts without a voxel have no mean
            mean = np.bincount(numbers, values, n + 1)[1:] / counts
            squares = np.bincount(numbers, (values - np.append(0, mean)[numbers]) ** 2, n + 1)[1:] / counts
        means.append(mean)
        deviations.append(np.sqrt(squares))
    return np.array(means), np.array(deviations)
