import numpy as np
import pytest
import torch

from medseg.plan import Grid, Normalization
from medseg.transforms.grids import label_map_on_grid, orthogonal_grid
from medseg.transforms.prepared import prepare
from medseg.transforms.restoring import restore
from medseg.volume import Geometry, Volume


def sheared(angle: float, turned: bool = False) -> Geometry:
    """As of a gantry tilted by ``angle`` degrees: slices 3 mm apart are shifted along the second axis."""
    affine = np.diag([0.9, 1.1, 3.0, 1.0])
    affine[1, 2] = 3 * np.tan(np.radians(angle))
    affine[:3, 3] = (-12, 5, 40)
    if turned:
        turn = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        affine = turn @ affine @ np.diag([-1, 1, 1, 1])
    return Geometry((14, 16, 9), affine)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("angle", [20.0, -20.0, 4.0])
def test_the_upright_grid_covers_the_sheared_one(angle: float, turned: bool) -> None:
    geometry = sheared(angle, turned)
    orthogonal = orthogonal_grid(geometry)
    assert orthogonal.shear < 1e-9
    assert orthogonal.orientation == geometry.orientation
    np.testing.assert_allclose(orthogonal.spacing, (0.9, 1.1, 3.0))
    extra = int(np.ceil(abs(24 * np.tan(np.radians(angle))) / 1.1 - 1e-9))
    assert orthogonal.shape == (14, 16 + extra, 9)
    index = orthogonal.index(geometry.world(np.moveaxis(np.indices(geometry.shape), 0, -1)))
    assert index.min() > -1e-6
    assert (index.max(axis=(0, 1, 2)) < np.array(orthogonal.shape) - 1 + 1e-6).all()
    # The planes are the same: nothing is interpolated between slices.
    np.testing.assert_allclose(index[..., 2], np.indices(geometry.shape)[2], atol=1e-9)


def test_a_grid_at_right_angles_stays_as_it_is() -> None:
    geometry = sheared(0, turned=True)
    assert geometry.difference(orthogonal_grid(geometry), 1e-9) is None


@pytest.mark.parametrize("angle", [20.0, -13.0])
def test_labels_go_to_the_upright_grid_and_back_unchanged(angle: float) -> None:
    geometry = sheared(angle)
    labels = np.random.default_rng(0).integers(0, 4, geometry.shape).astype(np.uint8)
    orthogonal = orthogonal_grid(geometry)
    there = label_map_on_grid(labels, geometry, orthogonal)
    np.testing.assert_array_equal(label_map_on_grid(there, orthogonal, geometry), labels)


@pytest.mark.parametrize("orientation", ["RAS", "LPS"])
def test_prepared_and_restored_is_the_identity_on_a_sheared_grid(orientation: str) -> None:
    geometry = sheared(18, turned=True)
    labels = np.zeros(geometry.shape, np.uint8)
    labels[3:9, 4:11, 2:6] = 1
    labels[5:7, 6:8, 3:5] = 2
    normalization = (Normalization(kind="none"),)
    grid = Grid(orientation=orientation, spacing=(0.9, 1.1, 3.0), crop_to_nonzero=False, normalization=normalization)
    prepared = prepare(Volume(labels[None].astype(np.float32), geometry), labels, grid)
    assert prepared.geometry.shear < 1e-6
    assert prepared.label_map is not None
    logits = torch.nn.functional.one_hot(prepared.label_map.long(), 3).movedim(-1, 0).float()
    restored = restore(logits, prepared.geometry, prepared.source)
    np.testing.assert_array_equal(restored, labels)


def test_the_image_is_interpolated_at_its_place_in_the_world() -> None:
    geometry = sheared(15)
    world = geometry.world(np.moveaxis(np.indices(geometry.shape), 0, -1))
    image = (world @ (2.0, 3.0, 5.0)).astype(np.float32)
    grid = Grid(
        orientation="RAS",
        spacing=(0.9, 1.1, 3.0),
        crop_to_nonzero=False,
        normalization=(Normalization(kind="none"),),
    )
    prepared = prepare(Volume(image[None], geometry), None, grid)
    values = prepared.image[0].numpy()
    expected = prepared.geometry.world(np.moveaxis(np.indices(values.shape), 0, -1)) @ (2.0, 3.0, 5.0)
    inside = geometry.index(prepared.geometry.world(np.moveaxis(np.indices(values.shape), 0, -1)))
    covered = ((inside >= 0) & (inside <= np.array(geometry.shape) - 1)).all(axis=-1)
    assert covered.sum() > 0.6 * covered.size
    np.testing.assert_allclose(values[covered], expected[covered], atol=1e-3)
