import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medseg.volume import Geometry, Volume


def oblique(shape: tuple[int, int, int] = (5, 7, 9)) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (20, -15, 160), degrees=True).as_matrix() @ np.diag((0.8, 1.5, 3.0))
    affine[:3, 3] = (-30, 12, 70)
    return Geometry(shape, affine)


def test_spacing_orientation_and_volume_of_an_oblique_grid() -> None:
    geometry = oblique()
    assert geometry.spacing == pytest.approx((0.8, 1.5, 3.0))
    assert geometry.orientation == "".join(nibabel.aff2axcodes(geometry.affine))
    assert geometry.voxel_volume_ml == pytest.approx(0.8 * 1.5 * 3.0 / 1000)
    assert geometry.shear < 1e-9


def test_world_and_index_are_inverse() -> None:
    geometry = oblique()
    index = np.array([[0, 0, 0], [4, 6, 8], [1.5, 2.25, 3]])
    assert np.allclose(geometry.index(geometry.world(index)), index)
    assert np.allclose(geometry.world((0, 0, 0)), (-30, 12, 70))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SLA", "IPR"])
def test_orienting_keeps_every_voxel_at_its_place(orientation: str) -> None:
    geometry = oblique()
    array = np.arange(np.prod(geometry.shape)).reshape(1, *geometry.shape)
    turned = Volume(array, geometry).oriented_as(orientation)
    assert turned.geometry.orientation == orientation
    for index in np.ndindex(*geometry.shape):
        there = turned.geometry.index(geometry.world(index))
        assert turned.array[(0, *np.rint(there).astype(int))] == array[(0, *index)]
        assert np.allclose(there, np.rint(there))


def test_grids_that_differ_by_rounding_agree_and_moved_ones_do_not() -> None:
    geometry = oblique()
    rounded = Geometry(geometry.shape, geometry.affine.astype(np.float32))
    assert geometry.difference(rounded) is None
    moved = geometry.affine.copy()
    moved[0, 3] += 0.1
    assert "mm apart (both spacing" in (geometry.difference(Geometry(geometry.shape, moved)) or "")
    flipped = Geometry(geometry.shape, geometry.affine @ np.diag((-1, 1, 1, 1)))
    words = geometry.difference(flipped) or ""
    assert f"{geometry.orientation} against" in words and words.endswith(f"{flipped.orientation})")
    assert geometry.difference(Geometry((5, 7, 8), geometry.affine)) == "shape 5×7×9 against 5×7×8"


@pytest.mark.filterwarnings("ignore:invalid value encountered in det")
@pytest.mark.parametrize("factor", [np.nan, 0.0])
def test_an_affine_that_is_no_grid_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="cannot be inverted"):
        Geometry((5, 7, 9), oblique().affine * factor)


def test_json_round_trip() -> None:
    geometry = oblique()
    again = Geometry.from_json(geometry.as_json())
    assert again.shape == geometry.shape
    assert np.array_equal(again.affine, geometry.affine)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="is not \\(channel, x, y, z\\)"):
        Volume(np.zeros((1, 2, 2, 2)), oblique())
    with pytest.raises(ValueError, match="one channel"):
        _ = Volume(np.zeros((2, 5, 7, 9)), oblique()).label_map
