import numpy as np
import pytest

from medseg.errors import GeometryError
from medseg.transforms.grids import on_grid
from medseg.volume import Geometry, Volume


def turned(degrees: float, spacing: tuple[float, float, float], origin: tuple[float, float, float]) -> np.ndarray:
    """The affine of a grid that is turned about z, with its x axis flipped."""
    angle = np.deg2rad(degrees)
    rotation = np.array([[-np.cos(angle), -np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = origin
    return affine


def plane(world: np.ndarray) -> np.ndarray:
    """Values that linear interpolation keeps."""
    return world @ np.array((2.0, -1.0, 0.5)) + 100


def indices(shape: tuple[int, int, int]) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)


def test_values_are_linear_between_voxels_whatever_the_axes() -> None:
    source = Geometry((30, 28, 12), turned(17, (1.5, 1.5, 4.0), (10, -25, -20)))
    grid = Geometry((8, 9, 7), turned(-40, (2.0, 1.0, 3.0), (-5, -8, -8)))
    volume = Volume(np.stack([plane(source.world(indices(source.shape)))] * 2), source)
    inside = (source.index(grid.world(indices(grid.shape))) > 0).all()
    assert inside  # or the test would prove nothing
    result = on_grid(volume, grid)
    assert result.geometry is grid and result.array.shape == (2, 8, 9, 7)
    np.testing.assert_allclose(result.array[1], plane(grid.world(indices(grid.shape))), atol=1e-3)


def test_beyond_the_volume_lies_air() -> None:
    volume = Volume(np.arange(10, 18, dtype=np.int16).reshape(1, 2, 2, 2) - 1000, Geometry((2, 2, 2), np.eye(4)))
    affine = np.eye(4)
    affine[0, 3] = -1.0
    result = on_grid(volume, Geometry((4, 2, 2), affine)).array[0]
    np.testing.assert_array_equal(result[1:3], volume.array[0])
    assert (result[[0, 3]] == -990).all() and result.dtype.kind == "f"


def test_volumes_that_do_not_meet_are_refused() -> None:
    grid = Geometry((4, 4, 4), turned(30, (1, 1, 1), (50, 0, 0)))
    with pytest.raises(GeometryError, match="nothing of it lies inside"):
        on_grid(Volume(np.ones((1, 4, 4, 4)), Geometry((4, 4, 4), np.eye(4))), grid)
