import numpy as np
import pytest
from scipy.spatial.distance import pdist

from medseg.errors import LabelError
from medseg.instances.object_map import ObjectMap, numbered
from medseg.instances.object_structures import object_colours, object_labels
from medseg.instances.object_table import object_table
from medseg.labels import Labels
from medseg.volume import Geometry, Volume

CELLS = Labels.from_names({"cell": 1, "nucleus": 4})


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius_mm: float, spacing: tuple[float, ...]) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.linalg.norm((grid - centre) * spacing, axis=-1) <= radius_mm


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.0, 2.0)])
def test_a_ball_is_measured_in_mm(spacing: tuple[float, float, float]) -> None:
    shape, radius = (36, 34, 30), 11.0
    array = ball(shape, (18, 17, 15), radius, spacing).astype(np.uint8)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-5, 7, 9)
    (row,) = object_table(numbered(array, label=4), CELLS, Geometry(shape, affine)).rows
    assert row.label == "nucleus" and row.voxels == array.sum()
    assert row.size == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)
    assert row.boundary == pytest.approx(4 * np.pi * radius**2, rel=0.04)
    assert row.longest_diameter_mm == pytest.approx(2 * radius, rel=0.05)
    assert row.centroid_mm == pytest.approx(np.array((18, 17, 15)) * spacing + affine[:3, 3])


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.8)])
def test_a_disc_is_measured_in_its_slice(spacing: tuple[float, float]) -> None:
    radius = 12.0
    shape = (60, 40)
    disc = ball(shape, (30, 20), radius, spacing)[..., None].astype(np.uint8)
    grid = Geometry((60, 40, 1), np.diag([*spacing, 3.0, 1.0]))
    table = object_table(numbered(disc), CELLS, grid)
    (row,) = table.rows
    assert row.size == pytest.approx(np.pi * radius**2, rel=0.03)
    assert row.boundary == pytest.approx(2 * np.pi * radius, rel=0.03)
    assert "area_mm2" in table.columns and "z_mm" not in table.columns
    picture = object_table(numbered(disc), CELLS, Geometry((60, 40, 1), np.eye(4)))
    assert picture.columns[:8] == [
        "id", "label", "x_pixels", "y_pixels", "voxels", "area_pixels", "perimeter_pixels", "longest_diameter_pixels"
    ]  # fmt: skip


def test_diameters_are_the_largest_distances_of_voxels() -> None:
    random = np.random.default_rng(0)
    array = np.zeros((30, 28, 20), np.int32)
    for number in range(1, 9):
        x, y, z = random.integers((0, 0, 0), (22, 20, 14))
        part = array[x : x + 8, y : y + 8, z : z + 6]
        part[random.random(part.shape) < 0.6] = number
    array[5, 5, :] = 9  # a line, of which a hull has no volume
    array[:, :, 19] = 10  # a plane
    objects = numbered(array)
    spacing = (1.0, 0.7, 3.0)
    rows = object_table(objects, CELLS, Geometry(array.shape, np.diag([*spacing, 1.0]))).rows
    for row in rows:
        places = np.argwhere(objects.array == row.id) * spacing
        assert row.longest_diameter_mm == pytest.approx(pdist(places).max())
        at_border = ((places == 0) | (places == (np.array(array.shape) - 1) * spacing)).any()
        assert row.touches_border == at_border


def test_values_confidence_and_csv() -> None:
    array = np.zeros((6, 5, 4), np.int32)
    array[1:3, 1:3, 1], array[4, 1:4, 2] = 1, 2
    image = np.random.default_rng(0).normal(5, 2, (2, *array.shape))
    grid = Geometry(array.shape, np.eye(4))
    objects = ObjectMap(array, np.array([1, 4]), ("1", "2"))
    table = object_table(objects, CELLS, grid, Volume(image, grid), ("CT", "PET"), [0.25, 0.75])
    first, second = table.rows
    assert first.mean == pytest.approx([channel[array == 1].mean() for channel in image])
    assert second.deviation == pytest.approx([channel[array == 2].std() for channel in image])
    header, line, _ = table.as_csv().splitlines()
    assert header.endswith("touches_border,confidence,mean_CT,deviation_CT,mean_PET,deviation_PET")
    assert line.startswith("1,cell,1.5,1.5,1,4,4,") and ",0,0.25," in line


def test_no_object_and_one_that_fills_everything() -> None:
    grid = Geometry((5, 4, 3), np.diag([2.0, 2.0, 2.0, 1.0]))
    assert object_table(numbered(np.zeros(grid.shape, np.uint8)), CELLS, grid).rows == ()
    (row,) = object_table(numbered(np.ones(grid.shape, np.uint8)), CELLS, grid).rows
    assert row.size == 480 and row.touches_border
    assert row.boundary == pytest.approx(2 * (10 * 8 + 10 * 6 + 8 * 6), rel=0.25)  # edges weigh much in so small a box


def test_neighbours_have_different_colours_and_objects_their_labels_codes() -> None:
    random = np.random.default_rng(0)
    seeds = random.integers(0, 40, (60, 2))
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(40), indexing="ij"), axis=-1)
    cells = np.linalg.norm(grid[:, :, None] - seeds, axis=-1).argmin(axis=-1)[..., None] + 1
    colours = object_colours(cells)
    for axis in (0, 1):
        for a, b in zip(np.delete(cells, -1, axis).ravel(), np.delete(cells, 0, axis).ravel(), strict=True):
            assert a == b or colours[a - 1] != colours[b - 1]
    livers = Labels.from_names({"liver": 3, "kidney_left": 5})
    objects = ObjectMap(np.array([[[1, 2, 3]]], np.int32), np.array([5, 3, 5]), ("a", "b", "c"))
    found = object_labels(objects, livers)
    assert found.names == ["kidney_left 1", "liver 1", "kidney_left 2"] and found.values == [1, 2, 3]
    assert [label.coding for label in found.items] == [livers.items[i].coding for i in (1, 0, 1)]
    with pytest.raises(LabelError, match="300 objects are too many for structures"):
        object_labels(numbered(np.arange(301).reshape(7, 43, 1), label=3), livers)
