"""The synthetic abdomen: plausible, different from seed to seed, and not to be solved by a threshold."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medseg.phantom.anatomy import LABELS, SUPINE_AXIAL, abdomen
from medseg.volume import Array, Geometry

SHAPE = (76, 64, 27)
SPACING = (5.0, 5.0, 7.0)
VOXEL_ML = 0.175

# Adults, parts outside of the scanned range left out; kidneys and spleen as in radiology textbooks.
VOLUMES_ML = {
    "liver": (700, 2200),
    "spleen": (80, 350),
    "kidney_left": (70, 270),
    "kidney_right": (70, 270),
    "spine": (200, 500),
}


@pytest.fixture(scope="module", params=[6, pytest.param(20, marks=pytest.mark.slow)], ids="{} patients".format)
def patients(request: pytest.FixtureRequest) -> list[tuple[Array, Array]]:
    return [abdomen(seed, shape=SHAPE, spacing=SPACING) for seed in range(request.param)]


def centres(label_map: Array, directions: Array = SUPINE_AXIAL) -> dict[str, Array]:
    """RAS mm of the middle of each label, from the middle of the grid."""
    affine = np.eye(4)
    affine[:3, :3] = directions * SPACING
    grid = Geometry(label_map.shape, affine)
    middle = grid.world((np.array(label_map.shape) - 1) / 2)
    return {name: grid.world(np.argwhere(label_map == value)).mean(axis=0) - middle for name, value in LABELS.items()}


def best_threshold_dice(image: Array, mask: Array) -> float:
    """Dice of the interval of HU (in steps of 5) that covers the mask best."""
    edges = np.arange(-1200, 1600, 5)
    voxels, inside = (np.append(0, np.histogram(v, edges)[0].cumsum()) for v in (image, image[mask]))
    n, hits = voxels[None] - voxels[:, None], inside[None] - inside[:, None]
    dice = 2 * hits[n > 0] / (n[n > 0] + mask.sum())
    return float(dice.max())


def test_values_are_those_of_ct(patients: list[tuple[Array, Array]]) -> None:
    for image, label_map in patients:
        assert image.shape == label_map.shape == SHAPE
        assert image.dtype == np.float32
        assert label_map.dtype == np.uint8
        assert image.min() > -1200
        assert 200 < image.max() < 1500
        assert -1010 < np.median(image[:, :3]) < -990  # air before the patient
        liver, spine = (np.median(image[label_map == LABELS[name]]) for name in ("liver", "spine"))
        assert 30 < liver < 130
        assert liver + 40 < spine < 450


def test_every_label_has_a_plausible_volume(patients: list[tuple[Array, Array]]) -> None:
    for seed, (_, label_map) in enumerate(patients):
        assert set(np.unique(label_map)) == {0, *LABELS.values()}
        for name, (low, high) in VOLUMES_ML.items():
            volume_ml = float((label_map == LABELS[name]).sum()) * VOXEL_ML
            assert low < volume_ml < high, f"seed {seed}: {name} {volume_ml:.0f} ml"


def test_organs_lie_where_they_belong(patients: list[tuple[Array, Array]]) -> None:
    for _, label_map in patients:
        at = centres(label_map)
        right, front, up = 0, 1, 2
        assert at["liver"][right] > at["spine"][right] + 30
        assert at["spleen"][right] < at["spine"][right] - 50
        assert at["kidney_right"][right] > at["spine"][right] + 30 > at["kidney_left"][right] + 60
        assert at["spine"][front] < min(-30, at["liver"][front] - 20, at["spleen"][front] - 5)
        assert at["liver"][up] > at["kidney_right"][up] + 20
        assert at["spleen"][up] > at["kidney_left"][up] + 10


@pytest.mark.parametrize("name", ["liver", "spleen"])
def test_a_threshold_does_not_find_the_organ(patients: list[tuple[Array, Array]], name: str) -> None:
    image = np.stack([image for image, _ in patients])
    mask = np.stack([label_map == LABELS[name] for _, label_map in patients])
    assert best_threshold_dice(image, mask) < 0.6


def test_the_threshold_of_this_test_would_find_something_easy() -> None:
    image = np.random.default_rng(0).normal(-1000, 20, (20, 20, 20))
    mask = np.zeros(image.shape, bool)
    mask[5:15, 5:15, 5:15] = True
    image[mask] += 1100
    assert best_threshold_dice(image, mask) > 0.99


def test_a_seed_is_one_patient(patients: list[tuple[Array, Array]]) -> None:
    image, label_map = abdomen(3, shape=SHAPE, spacing=SPACING)
    np.testing.assert_array_equal(image, patients[3][0])
    np.testing.assert_array_equal(label_map, patients[3][1])
    assert (label_map != patients[4][1]).mean() > 0.02


def test_the_patient_stays_where_he_is_when_the_grid_is_tilted(patients: list[tuple[Array, Array]]) -> None:
    directions = Rotation.from_euler("xyz", [12, 0, 8], degrees=True).as_matrix() @ SUPINE_AXIAL
    _, tilted = abdomen(3, shape=SHAPE, spacing=SPACING, directions=directions)
    assert (tilted != patients[3][1]).mean() > 0.02
    upright_centres, tilted_centres = centres(patients[3][1]), centres(tilted, directions)
    for name in ("liver", "spleen", "kidney_left", "kidney_right"):
        assert np.linalg.norm(upright_centres[name] - tilted_centres[name]) < 2.0


def test_a_voxel_is_the_mean_of_what_lies_in_it() -> None:
    """Partial volume: eight voxels of half the edge length average to one, which one of them does not."""
    coarse, coarse_labels = abdomen(1, shape=(40, 30, 12), spacing=(5.0, 5.0, 10.0))
    fine, fine_labels = abdomen(1, shape=(80, 60, 24), spacing=(2.5, 2.5, 5.0))
    mean = fine.reshape(40, 2, 30, 2, 12, 2).mean(axis=(1, 3, 5))
    difference_hu = np.abs(coarse - mean).mean()
    assert difference_hu < 25  # the noise of the two
    assert difference_hu < 0.6 * np.abs(coarse - fine[::2, ::2, ::2]).mean()
    for value in LABELS.values():
        assert (fine_labels == value).sum() / 8 == pytest.approx((coarse_labels == value).sum(), rel=0.1)
