"""How large, how long and how bright numbered parts of an image are: objects, or structures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import cc3d
import numpy as np
import numpy.typing as npt

from medseg.volume import Array, Box, Geometry, Spacing3, Volume, box_of

Floats = npt.NDArray[np.float64]

HULL_FROM = 64  # points: of fewer all distances are looked at
FIRST_VOXEL: Box = (slice(0, 1), slice(0, 1), slice(0, 1))
SLAB_VOXELS = 2**24  # that are measured at a time: some 600 MB of memory


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
    is_flat = array.shape[2] == 1
    box = box_of(array, (1, 1, 1)) or FIRST_VOXEL  # with some of what is beside the parts
    part = array[box]
    sums = _Sums(n, geometry.spacing, is_flat, 0 if image is None else len(image.array))
    for planes in _slabs(part.shape):
        after = part[planes.stop : planes.stop + 1]
        sums.add_shapes(part[planes], after, planes.start)
        if image is not None:
            sums.add_values(part[planes], image.array[(slice(None), *box)][:, planes])
    with np.errstate(invalid="ignore"):  # parts without a voxel lie nowhere, and have no mean
        centroids = sums.places[1:] / sums.voxels[1:, None] + [each.start for each in box]
        means, squares = (np.where(sums.voxels[1:] > 0, each[:, 1:], np.nan) for each in (sums.means, sums.squares))
        deviations = np.sqrt(squares / sums.voxels[1:])
    return Shapes(
        voxels=sums.voxels[1:],
        centroids_mm=geometry.world(centroids) if n else centroids,
        sizes=sums.voxels[1:].astype(np.float64) * float(np.prod(geometry.spacing[: 2 if is_flat else 3])),
        boundaries=sums.passages[1:] * (np.pi / 2 if is_flat else 2),
        longest_diameters_mm=sums.diameters(),
        at_border=_at_border(array, n),
        means=means,
        deviations=deviations,
    )


def _slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yields slabs along the first axis, so that what is computed of one takes little memory."""
    height = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], height):
        yield slice(start, min(start + height, shape[0]))


class _Sums:
    """What is added up over the slabs of an image, by the number of a part; that of 0 is of what is beside them.

    Attributes:
        voxels: How many there are, ``(n + 1,)``.
        places: The sum of their indices, ``(n + 1, 3)``.
        passages: How often lines pass from a part into something else, weighted by their directions, ``(n + 1,)``.
        means: Of the values of the image, ``(channel, n + 1)``.
        squares: Of their distances from the means, added up.
    """

    def __init__(self, n: int, spacing: Spacing3, is_flat: bool, n_channels: int) -> None:
        self.n, self.spacing = n, spacing
        self.voxels, self.places = np.zeros(n + 1, np.int64), np.zeros((n + 1, 3))
        self.passages = np.zeros(n + 1)
        self.means, self.squares = np.zeros((n_channels, n + 1)), np.zeros((n_channels, n + 1))
        self._valued = np.zeros(n + 1, np.int64)
        self._hulls: dict[int, Floats] = {}
        steps = _directions(is_flat)
        sizes = spacing[:2] if is_flat else spacing
        between = [float(np.prod(sizes) / np.linalg.norm(np.multiply(step, spacing))) for step in steps]  # of lines
        self._steps = dict(zip(steps, _weights(steps, spacing, is_flat) * between, strict=True))

    def add_shapes(self, slab: Array, after: Array, start: int) -> None:
        """Adds the parts of a slab.

        Args:
            slab: Numbers of parts, ``(x, y, z)``.
            after: The plane behind it; none behind the last slab.
            start: The first plane of the slab.
        """
        statistics = cc3d.statistics(np.ascontiguousarray(slab, np.uint32))
        counts = np.asarray(statistics["voxel_counts"])
        self.voxels[: len(counts)] += counts.astype(np.int64)
        shift = np.array([start, 0, 0])
        places = np.nan_to_num(np.asarray(statistics["centroids"])) + shift
        self.places[: len(counts)] += places * counts[:, None]
        with_next = np.concatenate([slab, after]) if len(after) else slab
        for step, weight in self._steps.items():
            self.passages += weight * _passages(with_next, self.n, step, len(slab), is_first=start == 0)
        for number, points in _surface_voxels(slab):
            known = self._hulls.get(number, np.zeros((0, 3)))
            self._hulls[number] = hull(np.concatenate([known, (points + shift) * self.spacing]))

    def add_values(self, slab: Array, image: Array) -> None:
        """Adds the values of the image ``(channel, x, y, z)`` in a slab.

        Source: Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
        """
        inside = slab > 0
        numbers = slab[inside]
        counts = np.bincount(numbers, minlength=self.n + 1)
        both = np.maximum(self._valued + counts, 1)
        for channel, values in enumerate(image):
            chosen = values[inside].astype(np.float64)
            mean = np.bincount(numbers, chosen, self.n + 1) / np.maximum(counts, 1)
            distance = mean - self.means[channel]
            self.squares[channel] += np.bincount(numbers, (chosen - mean[numbers]) ** 2, self.n + 1)
            self.squares[channel] += distance**2 * self._valued * counts / both
            self.means[channel] += distance * counts / both
        self._valued += counts

    def diameters(self) -> Floats:
        """Returns the longest distance between two voxels of each part, in mm."""
        from scipy.spatial.distance import pdist  # takes long to import

        longest = np.zeros(self.n)
        for number, points in self._hulls.items():
            longest[number - 1] = pdist(points).max(initial=0)
        return longest


def _directions(is_flat: bool) -> list[tuple[int, int, int]]:
    """Returns the steps to neighbours, one of each opposite pair."""
    steps = product((-1, 0, 1), (-1, 0, 1), (0,) if is_flat else (-1, 0, 1))
    return [(x, y, z) for x, y, z in steps if (x, y, z) > (0, 0, 0)]


def _weights(steps: Sequence[tuple[int, int, int]], spacing: Spacing3, is_flat: bool) -> Floats:
    """Returns the part of all directions that are nearest to each of the steps, or to its opposite."""
    from scipy.spatial import SphericalVoronoi  # takes long to import

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


def _passages(array: Array, n: int, step: tuple[int, int, int], height: int, *, is_first: bool) -> Array:
    """Returns how often lines in one direction pass between each part and something else.

    Args:
        array: A slab of so many planes, with the plane behind it where there is one.
        n: How many parts there are.
        step: To the next voxel of a line; it leads to no plane before.
        height: Of the slab.
        is_first: Whether no slab lies before it.
    """
    beyond = min(height + step[0], len(array))  # the end of what the lines of the slab's own planes lead to
    here = (slice(0, beyond - step[0]), *_overlap(step, array.shape, ahead=False))
    there = (slice(step[0], beyond), *_overlap(step, array.shape, ahead=True))
    one, other = array[here], array[there]
    differs = one != other
    passages = sum(np.bincount(each[differs], minlength=n + 1) for each in (one, other))
    own = array[:height]
    for kept in (here, (slice(step[0] if is_first else 0, height), *there[1:])):  # lines that leave the image
        outside = np.ones(own.shape, bool)
        outside[kept] = False
        passages = passages + np.bincount(own[outside], minlength=n + 1)
    found: Array = np.asarray(passages)
    return found


def _overlap(step: tuple[int, int, int], shape: tuple[int, ...], *, ahead: bool) -> list[slice]:
    """Returns the voxels of a plane that have another one a step ahead, or a step behind."""
    signs = [each if ahead else -each for each in step[1:]]
    return [slice(max(each, 0), length - max(-each, 0)) for each, length in zip(signs, shape[1:], strict=True)]


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


def hull(points: Floats) -> Floats:
    """Returns the corners of the convex hull of points, or of the plane or line that they lie in.

    Args:
        points: ``(n, dimension)``; of few of them all are returned.
    """
    from scipy.spatial import ConvexHull, QhullError  # takes long to import

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
