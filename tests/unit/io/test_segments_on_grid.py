from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg.errors import GeometryError
from medseg.io.segmentation import Segment
from medseg.io.segments_on_grid import label_map_on_lattice, layers_on_grid
from medseg.volume import Geometry

SHAPE = (6, 5, 4)


def geometry(
    shape: tuple[int, int, int], turn: Rotation, spacing: tuple[float, ...], origin: tuple[float, ...]
) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = turn.as_matrix() * spacing
    affine[:3, 3] = origin
    return Geometry(shape, affine)


def by_nearest_centre(label_map: np.ndarray, lattice: Geometry, grid: Geometry) -> np.ndarray:
    """Each voxel of the grid asks all voxels of the lattice, which only holds for cubes."""
    sources = lattice.world(np.argwhere(np.ones(lattice.shape)))
    result = np.zeros(grid.shape, dtype=label_map.dtype)
    for index in np.ndindex(*grid.shape):
        offset = sources - grid.world(index)
        nearest = int(np.linalg.norm(offset, axis=1).argmin())
        along = np.abs(offset[nearest] @ lattice.affine[:3, :3]) / np.square(lattice.spacing)
        result[index] = label_map.ravel()[nearest] if along.max() <= 0.5 else 0
    return result


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.6, 1.0, 1.7]))
def test_any_two_grids(seed: int, spacing: float) -> None:
    random = np.random.default_rng(seed)
    turns = Rotation.random(2, rng=random)
    lattice = geometry(SHAPE, turns[0], (1, 1, 1), tuple(random.uniform(-5, 5, 3)))
    centre = lattice.world((np.array(SHAPE) - 1) / 2) - turns[1].apply(spacing * np.array([3, 2.5, 2]))
    grid = geometry((7, 6, 5), turns[1], (spacing,) * 3, tuple(centre))
    label_map = random.integers(1, 100, SHAPE).astype(np.uint8)
    np.testing.assert_array_equal(
        label_map_on_lattice(label_map, lattice, grid), by_nearest_centre(label_map, lattice, grid)
    )


@settings(deadline=None, max_examples=60)
@given(st.permutations([0, 1, 2]), st.lists(st.booleans(), min_size=3, max_size=3), st.integers(0, 10_000))
def test_flipped_permuted_and_larger_grids_are_exact(axes: list[int], flips: list[bool], seed: int) -> None:
    random = np.random.default_rng(seed)
    lattice = geometry(SHAPE, Rotation.random(rng=random), (0.7, 1.1, 3.0), (4, -7, 2))
    label_map = random.integers(0, 100, SHAPE).astype(np.uint16)
    wider = np.pad(label_map, [(2, 1), (0, 3), (1, 1)])
    affine = lattice.affine.copy()
    affine[:3, 3] = lattice.world((-2, 0, -1))
    expected = wider.transpose(axes)
    affine[:, :3] = affine[:, axes]
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, axis] * (expected.shape[axis] - 1)
            affine[:3, axis] *= -1
            expected = np.flip(expected, axis)
    np.testing.assert_array_equal(label_map_on_lattice(label_map, lattice, Geometry(expected.shape, affine)), expected)


def test_finer_and_coarser_slices() -> None:
    lattice = Geometry((1, 1, 4), np.diag([1, 1, 3, 1]))
    label_map = np.array([1, 2, 3, 4]).reshape(1, 1, 4)
    affine = np.eye(4)
    affine[2, 3] = -2
    finer = label_map_on_lattice(label_map, lattice, Geometry((1, 1, 14), affine))
    assert finer.ravel().tolist() == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 0]
    coarser = label_map_on_lattice(label_map, lattice, Geometry((1, 1, 2), np.diag([1, 1, 6, 1])))
    assert coarser.ravel().tolist() == [1, 3]
    halves = label_map_on_lattice(label_map, lattice, Geometry((1, 1, 8), np.diag([1, 1, 1.5, 1])))
    assert halves.ravel().tolist() == [1, 2, 2, 3, 3, 4, 4, 0]


def segments() -> list[Segment]:
    return [Segment(1, "liver", 0, 1), Segment(2, "spot", 0, 2)]


def test_what_reaches_out_of_the_grid_is_an_error() -> None:
    lattice = Geometry((6, 6, 6), np.eye(4))
    label_map = np.zeros((6, 6, 6), dtype=np.uint8)
    label_map[1:3, 1:3, 1:3], label_map[5, 2, 2] = 1, 2
    narrow = Geometry((3, 6, 6), np.eye(4))
    with pytest.raises(GeometryError, match=r"a.dcm: 'spot' lies up to 2.5 mm outside of the image"):
        layers_on_grid([label_map], segments(), lattice, narrow, Path("a.dcm"))
    label_map[5, 2, 2] = 0
    (placed,), notes = layers_on_grid([label_map], segments(), lattice, narrow, Path("a.dcm"))
    np.testing.assert_array_equal(placed, label_map[:3])
    assert not notes


def test_what_no_voxel_centre_meets_is_told() -> None:
    lattice = Geometry((6, 6, 6), np.eye(4))
    label_map = np.zeros((6, 6, 6), dtype=np.uint8)
    label_map[1, 1, 1] = 2
    coarse = Geometry((3, 3, 2), np.diag([2, 2, 3, 1]))
    with pytest.raises(GeometryError, match="a.dcm: lies between the slices of the image, on none"):
        layers_on_grid([label_map], segments(), lattice, coarse, Path("a.dcm"))
    label_map[0, 0, 0] = 1
    (placed,), notes = layers_on_grid([label_map], segments(), lattice, coarse, Path("a.dcm"))
    assert placed.sum() == 1
    assert notes == ["'spot': too small for this grid, left out"]
