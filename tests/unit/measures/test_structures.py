import csv
import io

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from medseg.labels import Labels
from medseg.measures.structures import measure_structures
from medseg.table import table_text
from medseg.volume import Geometry, Volume

LABELS = Labels.from_names({"liver": 3, "tumour": 7, "nowhere": 9}, {"whole": (3, 7)})
SPACING = (0.8, 1.1, 2.0)


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii_mm: tuple[float, ...]) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.linalg.norm((grid - centre) * SPACING / np.array(radii_mm), axis=-1) <= 1


def drawn() -> np.ndarray:
    label_map = np.zeros((70, 60, 30), np.uint8)
    label_map[ellipsoid(label_map.shape, (35, 30, 15), (20, 12, 16))] = 3
    label_map[ellipsoid(label_map.shape, (40, 30, 15), (5, 5, 5))] = 7
    return label_map


def test_volumes_surfaces_diameters_and_values_of_labels_and_regions() -> None:
    label_map = drawn()
    affine = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1.0])
    grid = Geometry(label_map.shape, affine)
    image = Volume(np.random.default_rng(0).normal(40, 9, (2, *label_map.shape)).astype(np.float32), grid)
    measured = measure_structures(label_map, LABELS, grid, image, ["CT", "PT"], ["HU", ""])
    liver, tumour, nowhere, whole = measured.rows
    assert [row.name for row in measured.rows] == ["liver", "tumour", "nowhere", "whole"]
    for row, values in ((liver, (3,)), (tumour, (7,)), (whole, (3, 7))):
        mask = np.isin(label_map, values)
        assert row.size == pytest.approx(mask.sum() * np.prod(SPACING) / 1000)
        assert row.longest_diameter_mm == pytest.approx(pdist(np.argwhere(shell(mask)) * SPACING).max())
        for channel, found in zip(image.array, row.values, strict=True):
            inside = channel[mask].astype(np.float64)
            expected = [inside.mean(), inside.std(), inside.min(), np.median(inside), inside.max()]
            assert [*found.model_dump().values()] == pytest.approx(expected, rel=1e-5)
        assert row.centroid_mm == pytest.approx(grid.world(np.argwhere(mask).mean(axis=0)))
    assert tumour.boundary == pytest.approx(4 * np.pi * 5**2, rel=0.06)
    assert whole.axial_diameter_mm == pytest.approx(40, rel=0.06)
    assert whole.axial_width_mm == pytest.approx(24, rel=0.1)  # between centres of voxels
    assert nowhere.voxels == 0 and nowhere.centroid_mm is None and nowhere.values == ()


def shell(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


@pytest.mark.parametrize("along", [0, 1, 2])
def test_axial_is_across_the_body_whatever_the_axes(along: int) -> None:
    """A rod of 3×5 voxels across the body, 12 along it."""
    sizes = [3, 5]
    sizes.insert(along, 12)
    label_map = np.zeros((20, 20, 20), np.uint8)
    label_map[tuple(slice(4, 4 + n) for n in sizes)] = 3
    affine = np.eye(4)
    others = [axis for axis in range(3) if axis != along]
    affine[:3, :3] = 0
    affine[2, along], affine[0, others[0]], affine[1, others[1]] = 1, 1, 1
    row = measure_structures(label_map, LABELS, Geometry(label_map.shape, affine)).rows[0]
    assert row.axial_diameter_mm == pytest.approx(np.hypot(2, 4))
    assert row.axial_width_mm == pytest.approx(2 * 2 * 4 / np.hypot(2, 4))
    assert row.longest_diameter_mm == pytest.approx(np.sqrt(2**2 + 4**2 + 11**2))


def test_the_border_and_a_slice_and_a_picture() -> None:
    label_map = np.zeros((8, 7, 1), np.uint8)
    label_map[2:5, 0:3] = 3
    flat = measure_structures(label_map, LABELS, Geometry(label_map.shape, np.diag([2.0, 2.0, 5.0, 1.0])))
    assert flat.rows[0].size == 9 * 4 and flat.rows[0].touches_border and flat.rows[0].axial_diameter_mm is None
    assert flat.columns[:5] == ["structure", "voxels", "area_mm2", "perimeter_mm", "longest_diameter_mm"]
    picture = measure_structures(label_map, LABELS, Geometry(label_map.shape, np.eye(4)))
    assert picture.columns[2:7] == [
        "area_pixels", "perimeter_pixels", "longest_diameter_pixels", "x_pixels", "y_pixels"
    ]  # fmt: skip
    inside = measure_structures(np.pad(label_map, ((0, 0), (1, 0), (0, 0))), LABELS, Geometry((8, 8, 1), np.eye(4)))
    assert not inside.rows[0].touches_border


def test_the_table_has_a_cell_for_each_column() -> None:
    label_map = drawn()
    grid = Geometry(label_map.shape, np.diag([*SPACING, 1.0]))
    image = Volume(np.full((1, *label_map.shape), 40, np.int16), grid)
    measured = measure_structures(label_map, LABELS, grid, image, ["CT"], ["HU"])
    rows = list(csv.DictReader(io.StringIO(table_text(measured.columns, measured.cells()))))
    assert [row["structure"] for row in rows] == ["liver", "tumour", "nowhere", "whole"]
    assert float(rows[0]["volume_ml"]) == pytest.approx(measured.rows[0].size, rel=1e-5)
    assert rows[0]["mean_CT_HU"] == "40" and rows[2]["mean_CT_HU"] == ""
    assert None not in rows[0] and None not in rows[0].values()
