"""Outlines of a mask on one slice, as closed lines that give the mask back."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from medseg.volume import Array

# (n, 2): row and column of pixel centres and halves; closed, the first point not repeated.
Line = npt.NDArray[np.float64]


def outlines(mask: Array) -> Iterator[Line]:
    """Yields a closed line around each part of a mask, by marching squares.

    Lines pass half-way between the centres of pixels, so exactly the centres inside are the mask. Pixels that touch at
    corners only are parts of their own. A hole is joined to the line around it by a channel of no width (the keyhole of
    PS3.3, C.8.8.6.3), which passes between the centres: both readers that fill each line and unite them and those that
    take what an odd number of lines encloses get the same pixels.

    Args:
        mask: Boolean ``(row, column)``.

    Yields:
        ``(n, 2)``: row and column of the corners; the first point is not repeated.

    Source:
        Lorensen and Cline 1987, doi:10.1145/37402.37422.
    """
    from scipy import ndimage  # takes long to import, as scikit-image does
    from skimage.measure import find_contours

    parts, _ = ndimage.label(mask)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        part = np.pad(parts[box] == number, 1)
        rings = [ring[:-1] for ring in find_contours(part.astype(np.float32), 0.5)]
        # The line around the part is the leftmost; from each hole, what lies left of it is joined already.
        line, *holes = sorted(rings, key=lambda ring: float(ring[:, 1].min()))
        for hole in holes:
            line = _with_hole(line, hole)
        corner = np.array([box[0].start - 1, box[1].start - 1])
        yield _corners(line) + corner


def _with_hole(line: Line, hole: Line) -> Line:
    """Cuts to the left from the leftmost point of the hole that lies between two rows of centres."""
    between_rows = np.flatnonzero(hole[:, 0] % 1)
    first = between_rows[hole[between_rows, 1].argmin()]
    at, end = _next_to_the_left(line, hole[first])
    hole = np.roll(hole, -first, axis=0)
    return np.concatenate([line[: at + 1], [end], hole, hole[:1], [end], line[at + 1 :]])


def _next_to_the_left(line: Line, point: Line) -> tuple[int, Line]:
    """Returns where a ray along the row meets the line first: the number of the segment, and the place."""
    row, column = point
    (rows, columns), (next_rows, next_columns) = line.T, np.roll(line, -1, axis=0).T
    rise = next_rows - rows
    part = np.divide(row - rows, rise, out=(next_columns > columns).astype(float), where=rise != 0)
    meets = columns + part * (next_columns - columns)
    reached = (np.minimum(rows, next_rows) <= row) & (row <= np.maximum(rows, next_rows)) & (meets < column)
    at = int(np.where(reached, meets, -np.inf).argmax())
    return at, np.array([row, meets[at]])


def _corners(line: Line) -> Line:
    """Returns a line without points that repeat the one before or lie on the straight way to the next."""
    line = line[(line != np.roll(line, 1, axis=0)).any(axis=1)]
    before, after = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    turns_back = (before * after).sum(axis=1) < 0
    corners: Line = line[turns | turns_back]
    return corners
