"""Tilted gantries, uneven distances and missing slices: what is read, and how masks find the way back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import GeometryError
from medseg.io.dicom.geometry import on_planes
from medseg.io.dicom.series import dicom_geometry, find_series, read_dicom, source_planes
from medseg.io.source import ImageSource
from medseg.volume import Geometry

WriteSlices = Callable[..., list[Path]]
Positions = list[list[float]]

ROWS, COLUMNS = 40, 36
AXIAL = (1, 0, 0, 0, 1, 0)
SAGITTAL = (0, 1, 0, 0, 0, -1)
DECUBITUS = (0, 1, 0, -1, 0, 0)


def field(world: np.ndarray) -> np.ndarray:
    """Linear in RAS mm: interpolating it linearly is exact."""
    return 10 * world[..., 0] - 7 * world[..., 1] + 4 * world[..., 2]


def write_field(
    folder: Path, write_slices: WriteSlices, positions: Positions, orientation: tuple[float, ...] = AXIAL
) -> ImageSource:
    """Slices of ``field`` with their first pixels at ``positions`` (LPS mm); pixels of 0.8 × 1.2 mm."""
    row, column = np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), indexing="ij")
    along_row, down_column = np.array(orientation[:3]), np.array(orientation[3:])
    stored = []
    for position in positions:
        lps = np.array(position) + column[..., None] * 0.8 * along_row + row[..., None] * 1.2 * down_column
        stored.append(np.rint(20 * (field(lps * (-1, -1, 1)))))
    write_slices(
        folder,
        np.array(stored).astype(np.int16),
        spacing=(0.8, 1.2, 1),
        orientation=orientation,
        ImagePositionPatient=positions,
        RescaleSlope=0.05,
    )
    (source,) = find_series(folder).sources
    return source


def tilted(angle: float, n: int = 8) -> Positions:
    """Slices 3 mm apart, each shifted along its columns as by a gantry tilted by ``angle`` degrees."""
    return [[-15.0, -20.0 + 3 * i * np.tan(np.radians(angle)), 50.0 + 3 * i] for i in range(n)]


def assert_is_field(source: ImageSource) -> int:
    """Wherever the slices covered the grid. Returns the number of such voxels."""
    volume = read_dicom(source)
    assert volume.geometry.shear < 1e-6
    assert dicom_geometry(source).difference(volume.geometry, 0.0) is None
    expected = field(volume.geometry.world(np.moveaxis(np.indices(volume.geometry.shape), 0, -1)))
    inside = volume.array[0] > volume.array[0].min() + 1e-6
    error = np.abs(volume.array[0] - expected)
    # At the rim, values are mixed with what fills the rest.
    good = inside & (error < 0.2)
    assert good.sum() > 0.9 * inside.sum()
    return int(good.sum())


@pytest.mark.parametrize("angle", [20, -20, 7.3])
def test_a_tilted_gantry_is_read_on_an_upright_grid(tmp_path: Path, write_slices: WriteSlices, angle: float) -> None:
    source = write_field(tmp_path, write_slices, tilted(angle))
    assert f"tilted by {abs(angle):.1f}°" in source.notes[0]
    geometry = dicom_geometry(source)
    shift = 21 * np.tan(np.radians(abs(angle))) / 1.2
    assert geometry.shape == (COLUMNS, ROWS + int(np.ceil(shift)), 8)
    np.testing.assert_allclose(geometry.spacing, (0.8, 1.2, 3))
    assert assert_is_field(source) > 0.9 * ROWS * COLUMNS * 8


@pytest.mark.parametrize("angle", [20, -20])
@pytest.mark.parametrize("pixel", [(3, 4, 5), (0, 0, 0), (7, 39, 35)])
def test_a_landmark_on_a_tilted_slice_comes_back(
    tmp_path: Path, write_slices: WriteSlices, angle: float, pixel: tuple[int, int, int]
) -> None:
    """Slice, row, column → its place in the world → the voxel there → the same pixel of the same slice."""
    positions = tilted(angle)
    source = write_field(tmp_path, write_slices, positions)
    geometry = dicom_geometry(source)
    k, row, column = pixel
    lps = np.array(positions[k]) + np.array([column * 0.8, row * 1.2, 0])
    index = np.rint(geometry.index(lps * (-1, -1, 1))).astype(int)
    label_map = np.zeros(geometry.shape, np.uint8)
    label_map[tuple(index)] = 1
    assert np.linalg.norm(geometry.world(index) - lps * (-1, -1, 1)) <= 0.6 + 1e-6  # half a row
    masks = on_planes(label_map, geometry, source_planes(source))
    assert np.argwhere(masks).tolist() == [list(pixel)]


def test_a_label_map_keeps_its_size_on_tilted_slices(tmp_path: Path, write_slices: WriteSlices) -> None:
    source = write_field(tmp_path, write_slices, tilted(15))
    geometry = dicom_geometry(source)
    centre = geometry.world((np.array(geometry.shape) - 1) / 2)
    indices = np.moveaxis(np.indices(geometry.shape), 0, -1)
    ball = np.linalg.norm(geometry.world(indices) - centre, axis=-1) < 9
    masks = on_planes(ball.astype(np.uint8), geometry, source_planes(source))
    assert masks.sum() == pytest.approx(ball.sum(), rel=0.01)
    for plane, mask in zip(source_planes(source), masks, strict=True):
        pixels = plane.geometry.world([(column, row, 0) for row, column in np.argwhere(mask)] or np.empty((0, 3)))
        assert (np.linalg.norm(pixels - centre, axis=-1) < 9 + 0.7).all()


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, DECUBITUS])
@pytest.mark.parametrize("missing", [[3], [2, 3], [4, 5, 6]])
def test_missing_slices_are_filled_in(
    tmp_path: Path, write_slices: WriteSlices, orientation: tuple[float, ...], missing: list[int]
) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    whole = [list(np.array([5.0, -8, 50]) + 2.5 * i * normal) for i in range(16)]
    source = write_field(tmp_path, write_slices, [p for i, p in enumerate(whole) if i not in missing], orientation)
    words = f"{len(missing)} slices are" if len(missing) > 1 else "1 slice is"
    assert f"{words} missing" in source.notes[0]
    assert f"are {2.5 * (len(missing) + 1):.2f} mm apart, usual are 2.50 mm" in source.notes[0]
    assert dicom_geometry(source).shape == (COLUMNS, ROWS, 16)
    assert assert_is_field(source) > 0.99 * ROWS * COLUMNS * 16


@pytest.mark.parametrize("missing", [[2, 4, 6, 8], [3, 4, 5, 7], [2, 3, 7, 8]])
def test_a_series_of_which_a_fifth_is_missing_is_refused(
    tmp_path: Path, write_slices: WriteSlices, missing: list[int]
) -> None:
    source = write_field(tmp_path, write_slices, [[0, 0, 2.5 * i] for i in range(20) if i not in missing])
    for read in (dicom_geometry, read_dicom):
        with pytest.raises(GeometryError, match=r"4 of 20 slices are missing \(.* mm apart.*export the whole series"):
            read(source)


def test_slices_as_thick_as_their_distance_leave_no_gap(tmp_path: Path, write_slices: WriteSlices) -> None:
    """A head scan with slices of 5 mm below and of 10 mm above."""
    heights = [0, 5, 10, 15, 20, 25, 30, 40, 50, 60]
    thickness = [5.0] * 7 + [10.0] * 3
    stored = np.repeat(np.arange(10, dtype=np.int16), 12).reshape(10, 3, 4) * 100
    positions = [[0, 0, float(height)] for height in heights]
    write_slices(tmp_path, stored, orientation=AXIAL, ImagePositionPatient=positions, SliceThickness=thickness)
    (source,) = find_series(tmp_path).sources
    assert "slices are uneven" in source.notes[0]
    np.testing.assert_array_equal(read_dicom(source).array[0, 0, 0, -3:], [800, 850, 900])


def test_slices_that_are_there_are_not_changed(tmp_path: Path, write_slices: WriteSlices) -> None:
    positions: Positions = [[0, 0, 2.5 * i] for i in range(6) if i != 3]
    stored = np.random.default_rng(0).integers(0, 1000, (5, 6, 7)).astype(np.int16)
    write_slices(tmp_path, stored, orientation=AXIAL, ImagePositionPatient=positions)
    (source,) = find_series(tmp_path).sources
    values = read_dicom(source).array[0].T
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values[[0, 1, 2, 4, 5]], stored)
    np.testing.assert_array_equal(values[3], np.rint((stored[2].astype(float) + stored[3]) / 2))


def test_too_wide_a_gap_is_refused(tmp_path: Path, write_slices: WriteSlices) -> None:
    source = write_field(tmp_path, write_slices, [[0, 0, 2.5 * i] for i in (0, 1, 2, 7, 8, 9)])
    with pytest.raises(GeometryError, match=r"002\.dcm and 003\.dcm are 12\.50 mm apart, usual are 2\.50.*export"):
        read_dicom(source)


def test_uneven_slices_are_read_on_an_even_grid(tmp_path: Path, write_slices: WriteSlices) -> None:
    """A head scan: thin slices through the base of the skull, thick ones above."""
    heights = [0, 2, 4, 6, 8, 10, 12, 17, 22, 27]
    source = write_field(tmp_path, write_slices, [[0, 0, float(h)] for h in heights])
    assert "slices are uneven" in source.notes[0] and "distance of 1.93 mm" in source.notes[0]
    geometry = dicom_geometry(source)
    assert geometry.shape == (COLUMNS, ROWS, 15)
    np.testing.assert_allclose(geometry.spacing[2], 27 / 14)
    assert assert_is_field(source) > 0.99 * ROWS * COLUMNS * 15
    # Each true slice gets the mask of the nearest slice of the grid.
    label_map = np.arange(15, dtype=np.uint8)[None, None] + np.zeros((*geometry.shape[:2], 1), np.uint8)
    masks = on_planes(label_map, geometry, source_planes(source))
    assert masks[:, 0, 0].tolist() == [round(h * 14 / 27) for h in heights]


def test_tilted_and_uneven_at_once(tmp_path: Path, write_slices: WriteSlices) -> None:
    positions = [p for i, p in enumerate(tilted(-12, 9)) if i != 4]
    source = write_field(tmp_path, write_slices, positions)
    assert len(source.notes) == 2
    assert_is_field(source)


def test_rounded_positions_are_not_resampled(tmp_path: Path, write_slices: WriteSlices) -> None:
    source = write_field(tmp_path, write_slices, [[0, round(0.004 * i, 2), 3.0 * i] for i in range(30)])
    assert source.notes == ()
    assert dicom_geometry(source).shape == (COLUMNS, ROWS, 30)


def test_planes_are_grids_of_one_slice(tmp_path: Path, write_slices: WriteSlices) -> None:
    source = write_field(tmp_path, write_slices, tilted(10))
    plane = source_planes(source)[2]
    assert isinstance(plane.geometry, Geometry)
    np.testing.assert_allclose(plane.geometry.world((0, 0, 0)), np.array(tilted(10)[2]) * (-1, -1, 1))
    np.testing.assert_allclose(plane.geometry.spacing[:2], (0.8, 1.2))
