"""Shapes of numbered parts: slab by slab as of the whole image."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from medseg.measures import shapes
from medseg.measures.shapes import measure_shapes
from medseg.volume import Geometry, Volume


@pytest.mark.parametrize("shape", [(23, 14, 11), (23, 14, 1)], ids=["3D", "one slice"])
@pytest.mark.parametrize("planes", [1, 2, 5])
def test_slabs_give_what_the_whole_image_gives(
    shape: tuple[int, int, int], planes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    smooth = gaussian_filter(random.normal(size=shape), 1.2)
    numbers, n = label(smooth > 0.15)
    grid = Geometry(shape, np.array([[0.0, 2, 0, 5], [-0.5, 0, 0, 7], [0, 0, 3, -9], [0, 0, 0, 1]]))
    image = Volume(random.normal(1000, 3, (2, *shape)), grid)
    assert n > 2
    whole = measure_shapes(numbers, n + 1, grid, image)  # the last part has no voxel
    monkeypatch.setattr(shapes, "SLAB_VOXELS", planes * shape[1] * shape[2])
    in_slabs = measure_shapes(numbers, n + 1, grid, image)
    for name, values in vars(whole).items():
        np.testing.assert_allclose(vars(in_slabs)[name], values, rtol=1e-9, err_msg=name)
    for number in range(1, n + 1):  # by numpy's own words
        inside = numbers == number
        assert whole.voxels[number - 1] == inside.sum()
        assert whole.means[0, number - 1] == pytest.approx(image.array[0][inside].mean())
        assert whole.deviations[1, number - 1] == pytest.approx(image.array[1][inside].std(), abs=1e-9)
        assert whole.centroids_mm[number - 1] == pytest.approx(grid.world(np.argwhere(inside)).mean(axis=0))
    assert np.isnan(whole.centroids_mm[n]).all() and np.isnan(whole.means[:, n]).all()
