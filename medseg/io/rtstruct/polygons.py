"""Polygons as pixels."""

from collections.abc import Sequence

import numpy as np

from medseg.volume import Array

# Edges that pass through a pixel's centre leave it on the side of the higher index, whatever way they were rounded.
NUDGE = 1e-6


def filled(polygons: Sequence[Array], shape: tuple[int, int]) -> Array:
    """Returns the pixels whose centres lie inside of polygons, by the even-odd rule over all of them together.

    So a polygon within another is a hole, one in the hole an island, and a keyhole needs no care.

    Args:
        polygons: Corners ``(n, 2)`` in pixels, centres at whole numbers. They need not be closed, and may reach out.
        shape: Of the result.

    Returns:
        Boolean, of ``shape``.
    """
    width, height = shape
    start = np.concatenate(polygons) - NUDGE
    end = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons]) - NUDGE
    # Each edge crosses the lines through pixel centres from its lower end up to, but not including, its upper end.
    first = np.ceil(np.minimum(start[:, 1], end[:, 1])).clip(0, height).astype(int)
    n_lines = np.ceil(np.maximum(start[:, 1], end[:, 1])).clip(0, height).astype(int) - first
    edge = np.repeat(np.arange(len(start)), n_lines)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(n_lines) - n_lines - first, n_lines)
    (x, y), (x_end, y_end) = start[edge].T, end[edge].T
    crossing = x + (line - y) * (x_end - x) / (y_end - y)
    pixel = np.ceil(crossing).clip(0, width).astype(int)
    # A pixel is inside when an odd number of edges is crossed on the way to it.
    crossings = np.bincount(pixel * height + line, minlength=(width + 1) * height).reshape(width + 1, height)
    inside: Array = np.cumsum(crossings[:width], axis=0) % 2 == 1
    return inside
