import numpy as np
import pytest

from medseg.phantom.solid import Solid, column, ellipsoid, tube
from medseg.volume import Array

AXIS = np.arange(-60, 60, 1.0, dtype=np.float32) + 0.5
POINTS = np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"))


def volume(solid: Solid) -> float:
    return float((solid.depth(POINTS) > 0).sum())


def assert_boxed(solid: Solid) -> None:
    inside: Array = POINTS[:, solid.depth(POINTS) > 0]
    assert (inside.min(axis=1) >= solid.low).all()
    assert (inside.max(axis=1) <= solid.high).all()


def test_volume_of_a_turned_ellipsoid() -> None:
    solid = ellipsoid((5, -3, 2), (40, 20, 10), (20, 30, 40))
    assert volume(solid) == pytest.approx(4 / 3 * np.pi * 40 * 20 * 10, rel=0.01)
    assert_boxed(solid)


def test_an_ellipsoid_is_turned_about_its_centre() -> None:
    solid = ellipsoid((5, -3, 2), (40, 10, 10), (0, 0, 90))  # the long axis from x to y
    on_y, on_x = solid.depth(np.array([[5.0, 5 + 30], [-3 + 30, -3.0], [2.0, 2.0]]))
    assert on_y > 0 > on_x


def test_volume_of_a_tube_with_round_ends() -> None:
    solid = tube([(-30, 0, 0), (0, 0, 0), (30, 0, 0)], 12)
    assert volume(solid) == pytest.approx(np.pi * 12**2 * 60 + 4 / 3 * np.pi * 12**3, rel=0.01)
    assert_boxed(solid)


def test_cutting_and_joining() -> None:
    one, two = ellipsoid((-10, 0, 0), (20, 20, 20)), ellipsoid((10, 0, 0), (20, 20, 20))
    lens = np.pi * (4 * 20 + 20) * (2 * 20 - 20) ** 2 / 12  # of two equal spheres 20 apart
    ball = 4 / 3 * np.pi * 20**3
    assert volume(one.within(two)) == pytest.approx(lens, rel=0.02)
    assert volume(one.joined(two)) == pytest.approx(2 * ball - lens, rel=0.02)
    assert volume(one.without(two)) == pytest.approx(ball - lens, rel=0.02)
    assert volume(one.joined(two, blend_mm=10)) > 1.02 * volume(one.joined(two))
    assert volume(one.grown(3)) == pytest.approx(4 / 3 * np.pi * 23**3, rel=0.02)
    for solid in (one.within(two), one.joined(two, blend_mm=10), one.without(two), one.grown(3)):
        assert_boxed(solid)


def test_section_of_a_column() -> None:
    ellipse, squarer = column(30, 20, (3, 4)), column(30, 20, (3, 4), squareness=3)
    assert volume(ellipse) / len(AXIS) == pytest.approx(np.pi * 30 * 20, rel=0.01)
    assert np.pi * 30 * 20 < volume(squarer) / len(AXIS) < 4 * 30 * 20
