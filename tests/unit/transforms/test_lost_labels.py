import numpy as np
import pytest

from medseg.transforms.lost_labels import find_lost_components, spacing_to_keep
from medseg.volume import Geometry

SOURCE = Geometry((24, 20, 16), np.diag((-0.5, -0.5, 1.0, 1.0)))  # LPS


@pytest.fixture
def label_map() -> np.ndarray:
    """A large structure and a speck of one label, a lesion of three voxels of another, and what nobody annotated."""
    array = np.zeros(SOURCE.shape, np.uint8)
    array[2:12, 2:12, 2:10] = 1
    array[20, 3, 3] = 1
    array[16:19, 15, 12] = 2
    array[0, 0, 0] = 255
    return array


def coarser(label_map: np.ndarray, kept: tuple[int, ...]) -> tuple[np.ndarray, Geometry]:
    """Every second voxel, in RAS, of the labels that are ``kept``."""
    grid = SOURCE.oriented_as("RAS")
    affine = grid.affine @ np.diag((2, 2, 2, 1.0))
    affine[:3, 3] += grid.affine[:3, :3] @ (0.5, 0.5, 0.5)
    every_second = label_map[::-1, ::-1][::2, ::2, ::2]
    return np.where(np.isin(every_second, kept), every_second, 0), Geometry(every_second.shape, affine)


def test_labels_and_components_that_vanish_are_counted(label_map: np.ndarray) -> None:
    model_map, grid = coarser(label_map, (1, 255))
    model_map[1, 8, 1] = 0  # where the speck would be
    speck, lesion = find_lost_components(label_map, SOURCE, model_map, grid, "RAS")
    assert (speck.label, speck.components, speck.lost, speck.voxels, speck.entirely) == (1, 2, 1, 1, False)
    assert (lesion.label, lesion.components, lesion.voxels, lesion.entirely) == (2, 1, 3, True)
    assert not speck.cropped and not lesion.cropped
    assert spacing_to_keep(SOURCE, "RAS") == (0.5, 0.5, 1.0)


def test_what_is_left_is_not_told(label_map: np.ndarray) -> None:
    model_map, grid = coarser(label_map, (1, 2, 255))
    model_map[1, 8, 1] = 1
    model_map[2:4, 2, 6] = 2
    assert find_lost_components(label_map, SOURCE, model_map, grid, "RAS") == []
    same = label_map[::-1, ::-1]
    assert find_lost_components(label_map, SOURCE, same, SOURCE.oriented_as("RAS"), "RAS") == []


def test_what_is_cropped_away_is_told_as_that(label_map: np.ndarray) -> None:
    grid = SOURCE.oriented_as("RAS")
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world((8, 0, 0))
    cropped = label_map[::-1, ::-1][8:]
    (speck, lesion) = find_lost_components(label_map, SOURCE, cropped, Geometry(cropped.shape, affine), "RAS")
    assert (speck.lost, speck.cropped) == (1, True)
    assert (lesion.lost, lesion.cropped) == (1, True)
