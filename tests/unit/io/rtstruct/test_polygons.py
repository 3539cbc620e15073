import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from medseg.io.rtstruct.polygons import filled

SHAPE = (23, 17)


def centres(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 2)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40))
def test_any_star_shaped_polygon_equals_matplotlib(seed: int, n_corners: int) -> None:
    random = np.random.default_rng(seed)
    angle = np.sort(random.uniform(0, 2 * np.pi, n_corners))
    radius = random.uniform(0.5, 12, n_corners)  # some reach out of the picture
    polygon = random.uniform(3, 14, 2) + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    inside = Outline(polygon).contains_points(centres()).reshape(SHAPE)
    # A wide angle between corners makes a polygon that isn't star-shaped, and crosses itself nowhere still.
    np.testing.assert_array_equal(filled([polygon], SHAPE), inside)


def square(low: float, high: float) -> np.ndarray:
    return np.array([(low, low), (low, high), (high, high), (high, low)])


def test_holes_islands_and_neighbours() -> None:
    rings = [square(1.5, 12.5), square(3.5, 10.5), square(5.5, 8.5), square(13.5, 15.5)]
    expected = np.zeros(SHAPE, dtype=bool)
    for (low, high), value in zip(((2, 13), (4, 11), (6, 9), (14, 16)), (True, False, True, True), strict=True):
        expected[low:high, low:high] = value
    np.testing.assert_array_equal(filled(rings, SHAPE), expected)
    np.testing.assert_array_equal(filled([ring[::-1] for ring in rings[::-1]], SHAPE), expected)


def test_a_keyhole_is_a_hole() -> None:
    outer, inner = square(1.5, 12.5), square(3.5, 10.5)
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    np.testing.assert_array_equal(filled([keyhole], SHAPE), filled([outer, inner], SHAPE))


def test_a_closed_polygon_may_repeat_its_first_corner() -> None:
    ring = square(2.2, 8.8)
    np.testing.assert_array_equal(filled([np.concatenate([ring, ring[:1]])], SHAPE), filled([ring], SHAPE))


@pytest.mark.parametrize("noise", [0.0, 1e-9, -1e-9])
def test_neighbours_through_pixel_centres_share_no_pixel_and_leave_none_out(noise: float) -> None:
    left = np.array([(2, 2), (7, 2), (7, 9), (2, 9)]) + noise
    right = np.array([(7, 2), (12, 2), (12, 9), (7, 9)]) - noise
    one, other = filled([left], SHAPE), filled([right], SHAPE)
    assert not (one & other).any()
    expected = np.zeros(SHAPE, dtype=bool)
    expected[2:12, 2:9] = True
    np.testing.assert_array_equal(one | other, expected)


def test_outside_of_the_picture_is_nothing() -> None:
    assert not filled([square(30, 40)], SHAPE).any()
    assert not filled([square(-20, -10)], SHAPE).any()
    assert filled([square(-20, 60)], SHAPE).all()
    assert filled([square(-20, 60)], (0, 4)).shape == (0, 4)
