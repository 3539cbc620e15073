from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.draw import polygon2mask

from medseg.io.rtstruct.outlines import Line, outlines
from medseg.io.rtstruct.polygons import filled

RING = [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


def by_winding(line: Line, shape: tuple[int, int]) -> np.ndarray:
    """The pixels that the line goes around (the nonzero rule, which OpenGL and others know beside the even-odd one)."""
    row, column = np.indices(shape)
    turns = np.zeros(shape, dtype=int)
    for (r0, c0), (r1, c1) in zip(line, np.roll(line, -1, axis=0), strict=True):
        side = (c1 - c0) * (row - r0) - (r1 - r0) * (column - c0)
        turns += ((r0 <= row) & (row < r1) & (side < 0)).astype(int) - ((r1 <= row) & (row < r0) & (side > 0))
    return turns != 0


def assert_gives_back(mask: np.ndarray) -> None:
    lines = list(outlines(mask))
    assert all(len(line) >= 3 for line in lines)
    pictures = [polygon2mask(mask.shape, line) for line in lines]
    np.testing.assert_array_equal(np.sum(pictures, axis=0, dtype=int) if lines else 0 * mask, mask)
    wound = [by_winding(line, mask.shape) for line in lines]
    np.testing.assert_array_equal(np.sum(wound, axis=0, dtype=int) if lines else 0 * mask, mask)
    if lines:
        np.testing.assert_array_equal(filled(lines, mask.shape), mask)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_mask_comes_back(mask: np.ndarray) -> None:
    assert_gives_back(mask)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_large_noise_comes_back(density: float) -> None:
    assert_gives_back(np.random.default_rng(0).random((60, 50)) < density)


def test_a_pixel() -> None:
    (line,) = outlines(np.eye(1, dtype=bool))
    assert sorted(map(tuple, line)) == [(-0.5, 0), (0, -0.5), (0, 0.5), (0.5, 0)]


def test_a_rectangle_has_few_points() -> None:
    mask = np.zeros((50, 60), dtype=bool)
    mask[10:40, 5:50] = True
    (line,) = outlines(mask)
    assert len(line) == 8  # its corners are cut


def test_a_hole_is_joined_by_a_channel() -> None:
    (line,) = outlines(np.array(RING, dtype=bool))
    steps = list(segments(line))
    assert sum(step[::-1] in steps for step in steps) == 2  # one way in, the same way out


def segments(line: Line) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    points = [tuple(point) for point in line.tolist()]
    return zip(points, [*points[1:], points[0]], strict=True)


def test_holes_in_holes() -> None:
    """An island in a hole is a part of its own."""
    row, column = np.indices((41, 41)) - 20
    distance = np.hypot(row, column)
    mask = (distance < 5) | ((distance > 8) & (distance < 12)) | ((distance > 15) & (distance < 19))
    assert len(list(outlines(mask))) == 3
    assert_gives_back(mask)


def test_many_holes_in_a_row() -> None:
    mask = np.ones((20, 40), dtype=bool)
    mask[3::3, 2:38:2] = False
    (_,) = outlines(mask)
    assert_gives_back(mask)


def test_parts_that_touch_at_a_corner() -> None:
    assert len(list(outlines(np.eye(4, dtype=bool)))) == 4


def test_nothing_has_no_outline() -> None:
    assert not list(outlines(np.zeros((5, 5), dtype=bool)))
