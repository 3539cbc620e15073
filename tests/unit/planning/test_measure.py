import numpy as np
import pytest

from medseg.errors import LabelError
from medseg.planning.measure import fingerprint, measure
from medseg.volume import Geometry, Volume


def test_measures_of_a_known_case() -> None:
    array = np.zeros((2, 10, 12, 8))
    array[0, 2:7, 3:12, 1:8] = 5
    array[1, 2:8, 3:12, 1:8] = 7
    label_map = np.zeros((10, 12, 8), np.uint8)
    label_map[3:5, 4:6, 2:5] = 200
    affine = np.diag((-1.0, 2.0, 3.0, 1.0))[:, [2, 0, 1, 3]]  # array axes: S, L, A
    measures = measure(Volume(array, Geometry((10, 12, 8), affine)), label_map, "RAS", crop_to_nonzero=True)
    assert measures.shape == (9, 7, 6)  # L, A, S edges of the non-zero box, in the order R, A, S
    assert measures.spacing == pytest.approx((1, 2, 3))
    assert measures.voxels == {0: 10 * 12 * 8 - 12, 200: 12}
    assert measures.cropped_part == pytest.approx(6 * 9 * 7 / 960)
    assert measures.intensities.shape == (2, 12)
    assert set(measures.intensities[0]) == {5}


def test_the_fingerprint_pools_the_intensities_of_all_cases() -> None:
    random = np.random.default_rng(0)
    geometry = Geometry((20, 20, 20), np.eye(4))
    volumes = [Volume(random.normal(m, 10, (1, 20, 20, 20)), geometry) for m in (50, 70)]
    everywhere = np.ones((20, 20, 20), np.uint8)
    result = fingerprint([measure(v, everywhere, "RAS", True) for v in volumes])
    values = np.concatenate([v.array.ravel() for v in volumes])
    assert result.n_cases == 2
    assert result.intensities[0].mean == pytest.approx(values.mean(), rel=1e-4)
    assert result.intensities[0].std == pytest.approx(values.std(), rel=1e-4)
    assert result.intensities[0].percentile_99_5 == pytest.approx(np.percentile(values, 99.5), rel=1e-4)


def test_without_labels_all_voxels_are_measured() -> None:
    volume = Volume(np.arange(8.0).reshape(1, 2, 2, 2), Geometry((2, 2, 2), np.eye(4)))
    measures = measure(volume, None, "RAS", crop_to_nonzero=False)
    assert measures.intensities[0].tolist() == list(range(8))
    assert measures.voxels == {}


def test_what_is_ignored_is_not_measured() -> None:
    label_map = np.zeros((4, 4, 4), np.uint8)
    label_map[0], label_map[1] = 1, 255
    volume = Volume(np.arange(64.0).reshape(1, 4, 4, 4), Geometry((4, 4, 4), np.eye(4)))
    measures = measure(volume, label_map, "RAS", False, ignore=255)
    assert measures.voxels == {0: 32, 1: 16}
    assert measures.annotated_part == 0.75
    assert sorted(measures.intensities[0]) == list(range(16))


def test_cases_without_a_labelled_voxel_are_refused() -> None:
    volume = Volume(np.ones((1, 4, 4, 4), np.float32), Geometry((4, 4, 4), np.eye(4)))
    with pytest.raises(LabelError, match="no case has a labelled voxel"):
        fingerprint([measure(volume, np.zeros((4, 4, 4), np.uint8), "RAS", True)])
