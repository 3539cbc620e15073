import numpy as np
import pytest

from medseg.plan import Grid, Normalization
from medseg.transforms.extremes import find_extremes, without_extremes
from medseg.transforms.prepared import prepare
from medseg.volume import Geometry, Volume

SHAPE = (30, 28, 20)


@pytest.fixture
def image() -> np.ndarray:
    array = np.random.default_rng(0).normal(100, 10, SHAPE)
    array[5:12, 5:12, 5:12] += 80
    return array


@pytest.mark.parametrize("value", [1e7, -1e7, 1e30, 1e300])
@pytest.mark.parametrize("n", [1, 4])
def test_a_few_voxels_beyond_all_others_are_found(image: np.ndarray, value: float, n: int) -> None:
    spoilt = image.copy()
    spoilt[0, 0, :n] = value
    found = find_extremes(spoilt)
    assert found is not None
    assert (found.n, found.worst) == (n, value)
    rest = spoilt[spoilt != value]
    assert (found.lowest, found.highest) == (rest.min(), rest.max())


def test_what_an_image_shows_is_not_extreme(image: np.ndarray) -> None:
    spots = np.random.default_rng(0).poisson(2, SHAPE).astype(float)
    spots[10:13, 10:13, 10:13] = 40_000  # a small bright thing
    hot = image.copy()
    hot[0, 0, 0] = 2_000  # bright, and nothing else suffers
    mask = np.zeros(SHAPE)
    mask[3, 3, 3] = 1
    for ordinary in (image, spots, hot, mask, np.zeros(SHAPE), np.full(SHAPE, 7)):
        assert find_extremes(ordinary) is None
        assert find_extremes(ordinary, nonzero=True) is None


def test_an_image_without_extremes_is_the_same_array(image: np.ndarray) -> None:
    rule = Normalization(kind="zscore")
    array, notes = without_extremes(image[None], [rule])
    assert array.base is image
    assert notes == {}


def test_extremes_of_integers_are_clipped() -> None:
    image = np.random.default_rng(0).integers(90, 110, SHAPE).astype(np.uint16)
    image[0, 0, 0] = 60_000
    array, notes = without_extremes(image[None], [Normalization(kind="zscore")])
    assert array.dtype == np.uint16 and array.max() == 109 and list(notes) == [0]


def test_the_rest_of_the_image_is_prepared_as_without_them(image: np.ndarray) -> None:
    grid = Grid(
        orientation="RAS", spacing=(1, 1, 1), crop_to_nonzero=True, normalization=(Normalization(kind="zscore"),)
    )
    geometry = Geometry(SHAPE, np.eye(4))
    expected = prepare(Volume(image[None], geometry), None, grid)
    spoilt = image.copy()
    spoilt[0, 0, 0] = 1e30
    prepared = prepare(Volume(spoilt[None], geometry), None, grid)
    assert np.abs(prepared.image - expected.image)[0, 1:].max() < 0.02
    assert "1 voxel has an extreme value, up to 1e+30" in prepared.oddities[0]
    assert expected.oddities == {}
    assert spoilt[0, 0, 0] == 1e30  # the source's array stays


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("zscore", 0, "constant"),
        ("zscore", 5, "constant"),
        ("ct", 9, "constant"),
        ("ct", None, "nothing is left of it after normalization"),
    ],
)
def test_flat_images_are_told(image: np.ndarray, kind: str, value: float | None, told: str) -> None:
    rule = Normalization(kind=kind, lower=-200, upper=-100, mean=-150, std=20)  # type: ignore[arg-type]
    grid = Grid(orientation="RAS", spacing=(1, 1, 1), crop_to_nonzero=True, normalization=(rule,))
    array = image if value is None else np.full(SHAPE, float(value))
    prepared = prepare(Volume(array[None], Geometry(SHAPE, np.eye(4))), None, grid)
    assert told in prepared.oddities[0]
