"""Segmentation from clicks without a network: a random walker and a graph cut, to compare networks with.

Both see a part of the image, at most so many voxels of it, and take its outer faces for background.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from medseg.interactive.prompts import Point
from medseg.volume import Array, MaskArray, Spacing3

MOST_VOXELS = 2**17  # that are looked at; of larger parts every second one, third one, … along each axis

BETA = 130.0  # of the random walker, scikit-image's own
SUPERVOXEL = 30  # voxels of one
CONTRAST = 10.0  # of the graph cut: how fast an edge falls off with the squared difference, in deviations
LIKELIHOOD = 0.5  # of the graph cut: the weight of brightness against edges
CAPACITY = 1000  # of an edge between two alike voxels: SciPy's flows are whole numbers

Floats = npt.NDArray[np.float64]


def random_walker_mask(image: Array, clicks: Sequence[Point], spacing: Spacing3) -> MaskArray:
    """Returns what a random walker finds: ``skimage.segmentation.random_walker`` (Grady 2006), by conjugate gradients.

    Args:
        image: ``(x, y, z)``, the part of an image that it sees.
        clicks: In voxels of the part; those outside of it are left out.
        spacing: Edges of a voxel in mm.
    """
    from skimage.segmentation import random_walker

    def found(small: Floats, inside: MaskArray, outside: MaskArray, edges: Spacing3) -> MaskArray:
        seeds = np.where(inside, 1, np.where(outside, 2, 0))
        labels: Array = random_walker(small, seeds, beta=BETA, mode="cg_j", tol=1e-3, prob_tol=0.1, spacing=edges)
        mask: MaskArray = labels == 1
        return mask

    return _on_fewer_voxels(image, clicks, spacing, found)


def graph_cut_mask(image: Array, clicks: Sequence[Point], spacing: Spacing3) -> MaskArray:
    """Returns what a graph cut finds (Boykov and Jolly 2001): the cheapest cut between clicks and background.

    scikit-image has none with seeds. So its ``skimage.segmentation.slic`` makes supervoxels, and
    ``scipy.sparse.csgraph.maximum_flow`` cuts the graph of them. Edges cost less where brightness changes, and each
    supervoxel is drawn to the side whose brightness it has.

    Args:
        image: ``(x, y, z)``, the part of an image that it sees.
        clicks: In voxels of the part; those outside of it are left out.
        spacing: Edges of a voxel in mm.
    """
    from skimage.segmentation import slic

    def found(small: Floats, inside: MaskArray, outside: MaskArray, edges: Spacing3) -> MaskArray:
        n = max(2, small.size // SUPERVOXEL)
        parts = slic(small, n_segments=n, compactness=0.1, channel_axis=None, spacing=edges, start_label=0)
        of_object = _source_side(small, parts, np.unique(parts[inside]), np.unique(parts[outside]))
        mask: MaskArray = of_object[parts]
        return mask

    return _on_fewer_voxels(image, clicks, spacing, found)


def _on_fewer_voxels(
    image: Array,
    clicks: Sequence[Point],
    spacing: Spacing3,
    found: Callable[[Floats, MaskArray, MaskArray, Spacing3], MaskArray],
) -> MaskArray:
    """Returns the mask ``(x, y, z)`` of what a method finds in every second, third, … voxel of an image."""
    every = max(1, int(np.ceil((image.size / MOST_VOXELS) ** (1 / 3))))
    steps = [min(every, max(1, n // 4)) for n in image.shape]
    x, y, z = (slice(step // 2, None, step) for step in steps)
    small = image[x, y, z].astype(np.float64)
    small = (small - small.min()) / max(float(np.ptp(small)), 1e-8)
    inside, outside = np.zeros(small.shape, dtype=bool), np.zeros(small.shape, dtype=bool)
    for axis, n in enumerate(small.shape):
        if n > 2:
            np.moveaxis(outside, axis, 0)[[0, -1]] = True
    for click in clicks:
        place = tuple(round(i) // step for i, step in zip(click.index, steps, strict=True))
        if all(0 <= i < n for i, n in zip(place, small.shape, strict=True)):
            inside[place], outside[place] = click.positive, not click.positive
    if not inside.any():
        return np.zeros(image.shape, dtype=bool)
    i, j, k = (mm * step for mm, step in zip(spacing, steps, strict=True))
    mask = found(small, inside, outside & ~inside, (i, j, k))
    nearest = [
        np.minimum(np.arange(n) // step, m - 1) for n, step, m in zip(image.shape, steps, mask.shape, strict=True)
    ]
    whole: MaskArray = mask[np.ix_(*nearest)]
    return whole


def _source_side(image: Floats, parts: Array, inside: Array, outside: Array) -> MaskArray:
    """Returns which supervoxels the cheapest cut leaves with the clicks in the object.

    Args:
        image: ``(x, y, z)``, from 0 to 1.
        parts: The number of each voxel's supervoxel, from 0.
        inside: Supervoxels that were clicked in the object.
        outside: Those of the background; one that is both is of the object.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    n = int(parts.max()) + 1
    means = np.bincount(parts.ravel(), image.ravel(), n) / np.maximum(np.bincount(parts.ravel(), minlength=n), 1)
    deviation = max(float(image.std()), 1e-8)
    pairs = np.concatenate([_neighbours(parts, axis) for axis in range(3)])
    pairs, faces = np.unique(np.sort(pairs, axis=1), axis=0, return_counts=True)
    contrast = ((means[pairs[:, 0]] - means[pairs[:, 1]]) / deviation) ** 2
    edges = faces * np.exp(-CONTRAST * contrast)
    outside = np.setdiff1d(outside, inside)
    like_object = _likeness(means, means[inside], deviation)
    like_background = _likeness(means, means[outside], deviation)
    usual_faces = float(np.bincount(pairs.ravel(), np.repeat(faces, 2), n).mean())
    to_source, to_sink = (LIKELIHOOD * usual_faces * likeness for likeness in (like_object, like_background))
    hard = float(edges.sum() + usual_faces * n)
    to_source[inside], to_sink[inside] = hard, 0
    to_source[outside], to_sink[outside] = 0, hard
    source, sink, every = n, n + 1, np.arange(n)
    tails = np.concatenate([pairs[:, 0], pairs[:, 1], np.full(n, source), every])
    heads = np.concatenate([pairs[:, 1], pairs[:, 0], every, np.full(n, sink)])
    capacities = np.concatenate([edges, edges, to_source, to_sink])
    whole = np.minimum(np.rint(CAPACITY * capacities), np.iinfo(np.int32).max // 4).astype(np.int32)
    graph = coo_array((whole, (tails, heads)), shape=(n + 2, n + 2)).tocsr()
    left = graph - maximum_flow(graph, source, sink).flow
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    reached = breadth_first_order(left, source, return_predecessors=False)
    of_object = np.zeros(n + 2, dtype=bool)
    of_object[reached] = True
    return of_object[:n]


def _neighbours(parts: Array, axis: int) -> Array:
    """Returns pairs of supervoxels, one for each face that two of them share across an axis."""
    along = np.moveaxis(parts, axis, 0)
    first, second = along[:-1].ravel(), along[1:].ravel()
    differ = first != second
    return np.stack([first[differ], second[differ]], axis=1)


def _likeness(means: Floats, of_seeds: Floats, deviation: float) -> Floats:
    """Returns how like the brightness of seeds that of each supervoxel is, from 0 to 1, by their nearest decile."""
    deciles = np.quantile(of_seeds, np.linspace(0.1, 0.9, 9)) if len(of_seeds) else np.array([np.inf])
    nearest = np.abs(means[:, None] - deciles).min(1) / deviation
    likeness: Floats = np.exp(-(nearest**2) * 4)
    return likeness
