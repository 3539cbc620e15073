"""Statistics of an image that is read block by block are those of the whole."""

import numpy as np
import pytest

from medseg.errors import SourceError
from medseg.plan import Grid, Normalization
from medseg.transforms.block_preparation import BlockPreparation
from medseg.transforms.extremes import MOST_VOXELS, find_extremes
from medseg.transforms.intensities import quantiles
from medseg.transforms.prepared import prepare
from medseg.transforms.value_statistics import boxes_of, image_statistics, reading_boxes
from medseg.volume import Array, Box, Geometry, Volume

SHAPE = (40, 37, 50)
ZSCORE = Normalization(kind="zscore", nonzero=True)


class OnDisk:
    """A volume of which boxes are read."""

    def __init__(self, array: Array, affine: Array) -> None:
        self.array, self.geometry = array, Geometry(array.shape[1:], affine)

    def read(self, box: Box) -> Array:
        return self.array[:, *box]


def image(kind: type = np.float32) -> Array:
    array = np.random.default_rng(0).normal(100, 10, (2, *SHAPE))
    array[:, :5], array[:, :, -4:] = 0, 0
    return np.asfortranarray(array.astype(kind).transpose(0, 1, 2, 3))


@pytest.mark.parametrize("extreme", [0, 3])
def test_numbers_are_those_of_the_whole(extreme: int) -> None:
    array = np.stack([np.asfortranarray(channel) for channel in image()])
    array[0, 20, 20, 20 : 20 + extreme] = 1e6
    found = image_statistics(lambda box: array[:, *box], SHAPE, [ZSCORE, ZSCORE], boxes_of(SHAPE, (16, 16, 16)))
    first = found.channels[0]
    expected = find_extremes(array[0], nonzero=True)
    assert (expected is None) is (first.clip is None) is (extreme == 0)
    clipped = array[0]
    if expected is not None:
        assert first.clip == (expected.lowest, expected.highest)
        assert first.oddity.startswith(str(expected))
        clipped = array[0].clip(*first.clip)
    values = clipped[clipped != 0]
    assert first.mean == pytest.approx(values.mean(dtype=np.float64), rel=1e-9)
    assert first.std == pytest.approx(values.std(dtype=np.float64), rel=1e-6)
    np.testing.assert_array_equal(first.quantiles, quantiles(np.asfortranarray(clipped)))
    occupied = [np.flatnonzero((array != 0).any((0, *({1, 2, 3} - {axis})))) for axis in (1, 2, 3)]
    assert found.nonzero == tuple((places[0], places[-1] + 1) for places in occupied)


@pytest.mark.parametrize("n", [9, 10, 11])
@pytest.mark.parametrize("together", [True, False])
def test_as_many_extremes_are_found_as_in_the_whole(n: int, together: bool) -> None:
    array = image()
    array[0, 20, 20, 20 : 20 + n] = 1e8 if together else 10.0 ** np.arange(8, 8 + n)
    found = image_statistics(lambda box: array[:, *box], SHAPE, [ZSCORE, ZSCORE], boxes_of(SHAPE, (16, 16, 16)))
    expected = find_extremes(array[0], nonzero=True)
    assert (expected is None) is (n > MOST_VOXELS)
    assert found.channels[0].oddity.partition(";")[0] == str(expected or "")


def test_voxels_that_are_no_numbers_are_counted() -> None:
    array = image()
    array[1, 3, 3, 3:6] = np.nan
    with pytest.raises(SourceError, match="NaN or infinite: 3"):
        image_statistics(lambda box: array[:, *box], SHAPE, [ZSCORE, ZSCORE])


def test_a_volume_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.transforms.value_statistics.VOXELS_AT_ONCE", 1000)
    counted = np.zeros((300, 40, 170), int)
    for box in reading_boxes(counted.shape):
        counted[box] += 1
    assert (counted == 1).all()


@pytest.mark.parametrize("orientation", ["RAS", "PIL", "stored"])
@pytest.mark.parametrize("interpolation", ["cubic", "linear", "nearest"])
def test_boxes_are_those_of_the_prepared_image(orientation: str, interpolation: str) -> None:
    affine = np.array([[0, -1.3, 0, 5], [0.8, 0, 0, -3], [0, 0, -1.1, 9], [0, 0, 0, 1]])
    grid = Grid(orientation=orientation, spacing=(1, 1, 1), crop_to_nonzero=True, normalization=(ZSCORE, ZSCORE))
    grid = grid.model_copy(update={"resampling": grid.resampling.model_copy(update={"interpolation": interpolation})})
    volume = OnDisk(image(), affine)
    whole = prepare(Volume(volume.array, volume.geometry), None, grid)
    statistics = image_statistics(volume.read, SHAPE, grid.normalization, boxes_of(SHAPE, (16, 16, 16)))
    preparation = BlockPreparation(volume, grid, statistics)
    assert preparation.model.difference(whole.geometry) is None
    for box in boxes_of(preparation.model.shape, (17, 40, 23)):
        np.testing.assert_allclose(preparation.image(box), whole.image[:, *box], atol=2e-6)


def test_shares_are_the_model_grid_once() -> None:
    affine = np.diag([-1.3, 0.8, 1.1, 1])
    grid = Grid(orientation="RAS", spacing=(1, 1, 1), crop_to_nonzero=True, normalization=(ZSCORE, ZSCORE))
    volume, edges = OnDisk(image(), affine), (16, 16, 16)
    preparation = BlockPreparation(volume, grid, image_statistics(volume.read, SHAPE, grid.normalization))
    counted = np.zeros(preparation.model.shape, int)
    cuts = preparation.shares(edges)
    for box in boxes_of(SHAPE, edges):
        x, y, z = (part.start // 16 for part in box)
        counted[preparation.share(cuts, (x, y, z))] += 1
    assert (counted == 1).all()
