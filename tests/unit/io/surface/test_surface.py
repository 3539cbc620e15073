"""Surfaces against trimesh."""

import numpy as np
import pytest
import trimesh
from dicom_kinds import BALLS
from parameters import mostly_slow

from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.surface.writer import surface, write_obj, write_stl
from medseg.labels import Labels
from medseg.volume import Array, Geometry

LPS = np.array([-1.0, -1.0, 1.0])
# Left-handed, right-handed, oblique.
AFFINES = {
    "RAS": np.diag([0.8, 1.1, 2.5, 1]),
    "LAS": np.diag([-0.8, 1.1, 2.5, 1]),
    "PIR": np.array([[0, 0, 2.5, 7], [-0.8, 0, 0, -9], [0, -1.1, 0, 100.0], [0, 0, 0, 1]]),
    "sheared": np.array([[0.8, 0, 0, 7], [0, 1.1, 0.9, -9], [0, 0, 2.5, 100.0], [0, 0, 0, 1]]),
}
SHAPE = (30, 26, 18)


def ball(geometry: Geometry, radius_mm: float = 9.0) -> tuple[Array, Array]:
    """A mask, and its centre in RAS mm."""
    centre = geometry.world((np.array(geometry.shape) - 1) / 2 + (2, -1, 0.5))
    places = geometry.world(np.moveaxis(np.indices(geometry.shape), 0, -1))
    return np.linalg.norm(places - centre, axis=-1) < radius_mm, centre


def mesh_of(mask: Array, geometry: Geometry) -> trimesh.Trimesh:
    return trimesh.Trimesh(*surface(mask, geometry))


@pytest.mark.parametrize("name", AFFINES)
def test_a_ball(name: str) -> None:
    geometry = Geometry(SHAPE, AFFINES[name])
    mask, centre = ball(geometry)
    mesh = mesh_of(mask, geometry)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume / 1000 == pytest.approx(mask.sum() * geometry.voxel_volume_ml, rel=0.005)  # not negative
    np.testing.assert_allclose(mesh.center_mass * LPS, centre, atol=0.3)
    distances = np.linalg.norm(mesh.vertices * LPS - centre, axis=1)
    assert abs(distances - 9.0).max() < 1.5


@pytest.mark.parametrize("name", mostly_slow(AFFINES, "sheared"))
def test_exactly_the_centres_of_the_mask_lie_inside(name: str) -> None:
    geometry = Geometry((11, 10, 9), AFFINES[name])
    mask = np.random.default_rng(0).random(geometry.shape) < 0.3
    mesh = mesh_of(mask, geometry)
    places = geometry.world(np.moveaxis(np.indices(geometry.shape), 0, -1)) * LPS
    inside = np.abs(winding_number(mesh, places.reshape(-1, 3))) > 0.5
    np.testing.assert_array_equal(inside.reshape(mask.shape), mask)


def winding_number(mesh: trimesh.Trimesh, points: Array) -> Array:
    """How often the surface goes around each point: its solid angle (Van Oosterom and Strackee 1983) over 4π."""
    a, b, c = np.moveaxis(mesh.triangles[None] - points[:, None, None], 2, 0)
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    triple = (a * np.cross(b, c)).sum(-1)
    below = la * lb * lc + (a * b).sum(-1) * lc + (a * c).sum(-1) * lb + (b * c).sum(-1) * la
    return np.arctan2(triple, below).sum(axis=1) / (2 * np.pi)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 6), (2, 1, 3), (5, 5, 1)])
def test_structures_of_few_voxels(size: tuple[int, int, int]) -> None:
    geometry = Geometry((9, 9, 9), AFFINES["PIR"])
    mask = np.zeros(geometry.shape, dtype=bool)
    mask[tuple(slice(1, 1 + n) for n in size)] = True
    mesh = mesh_of(mask, geometry)
    assert mesh.is_watertight
    assert mesh.volume / 1000 == pytest.approx(mask.sum() * geometry.voxel_volume_ml, rel=0.05)


def test_a_structure_that_fills_the_image_is_closed() -> None:
    geometry = Geometry((6, 5, 4), AFFINES["RAS"])
    mesh = mesh_of(np.ones(geometry.shape, dtype=bool), geometry)
    assert mesh.is_watertight
    assert mesh.volume / 1000 == pytest.approx(120 * geometry.voxel_volume_ml, rel=0.05)


def test_holes_and_parts() -> None:
    geometry = Geometry(SHAPE, AFFINES["RAS"])
    mask = ball(geometry)[0] & ~ball(geometry, 4.0)[0]
    mask[:3, :3, :3] = True
    mesh = mesh_of(mask, geometry)
    assert mesh.is_watertight and mesh.body_count == 3
    assert mesh.volume / 1000 == pytest.approx(mask.sum() * geometry.voxel_volume_ml, rel=0.005)


@pytest.mark.parametrize(("write", "suffix"), [(write_stl, "stl"), (write_obj, "obj")])
def test_a_file_for_each_structure(tmp_path, balls: LabelMapVolume, write, suffix: str) -> None:  # type: ignore[no-untyped-def]
    paths = write(tmp_path / "mask", balls)
    assert [path.name for path in paths] == [f"liver.{suffix}", f"kidney_left.{suffix}"]
    for path, (centre, radius) in zip(paths, BALLS, strict=True):
        assert b"SPACE=LPS" in path.read_bytes()[:80]
        mesh = trimesh.load_mesh(path)
        assert mesh.is_watertight and mesh.volume > 0
        np.testing.assert_allclose(mesh.center_mass * LPS, centre, atol=0.4)
        assert mesh.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.05)


def test_structures_that_are_nowhere_have_no_file(tmp_path, balls: LabelMapVolume, capsys) -> None:  # type: ignore[no-untyped-def]
    labels = Labels.from_names({"liver": 1, "kidney left": 2, "spleen": 3})
    paths = write_stl(tmp_path / "mask", LabelMapVolume(balls.label_map, balls.geometry, labels))
    assert [path.name for path in paths] == ["liver.stl", "kidney_left.stl"]
    assert "no voxel of spleen" in capsys.readouterr().err
