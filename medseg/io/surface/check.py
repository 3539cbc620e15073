"""Surfaces read back, through trimesh."""

from pathlib import Path

import numpy as np

from medseg.io.certificates.certificate import Certificate, together
from medseg.io.certificates.raw_slices import LPS_TO_RAS
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import GRID_TOLERANCE, Array, Geometry

# What a surface encloses may differ from the volume of the voxels by this part of it. It is a tenth of that but for
# structures of a few voxels.
VOLUME_TOLERANCE = 0.05

PAIR = np.dtype([(name, np.int32) for name in ("axis", "x", "y", "z")])


def check_stl(folder: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a folder of STL files back and compares each with its structure.

    Args:
        folder: With the files.
        segmented: What was to be written.
    """
    return _check_surfaces(folder, segmented, ".stl")


def check_obj(folder: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a folder of OBJ files back and compares each with its structure.

    Args:
        folder: With the files.
        segmented: What was to be written.
    """
    return _check_surfaces(folder, segmented, ".obj")


def _check_surfaces(folder: Path, segmented: LabelMapVolume, suffix: str) -> Certificate:
    files = [(path, segmented.mask(structure)) for structure, path in segmented.files(folder, suffix)]
    return together([check_surface(path, mask, segmented.geometry) for path, mask in files])


def check_surface(path: Path, mask: Array, geometry: Geometry) -> Certificate:
    """Compares a surface with a mask, voxel by voxel.

    A surface of marching cubes has one vertex between each two neighbours of which one is in the mask, on the line
    between their centres. So its vertices tell the mask. It also has to be closed and to enclose the volume of the
    voxels. Without voxels there is no surface, and nothing to compare.

    Args:
        path: The file.
        mask: Boolean ``(x, y, z)``.
        geometry: Its grid, in RAS mm.

    Returns:
        A certificate whose ``n_different`` are pairs of neighbours, and whose ``max_distance_mm`` is how far vertices
        lie off their lines.
    """
    import trimesh

    if not mask.any():
        return Certificate(f"trimesh {trimesh.__version__}", mask.size, 0, 0.0, GRID_TOLERANCE * min(geometry.spacing))
    mesh = trimesh.load_mesh(path)
    index = geometry.index(np.asarray(mesh.vertices) @ LPS_TO_RAS[:3, :3])
    found, off_line = _pairs_at(index, geometry)
    expected = np.concatenate([_pairs_along(axis, mask) for axis in range(3)])
    volume_ml, expected_ml = mesh.volume / 1000, int(mask.sum()) * geometry.voxel_volume_ml
    remark = ""
    if not mesh.is_watertight:
        remark = f"{path.name} is not closed"
    elif not abs(volume_ml / expected_ml - 1) <= VOLUME_TOLERANCE:
        remark = f"{path.name} encloses {volume_ml:.4g} ml instead of {expected_ml:.4g} ml"
    return Certificate(
        reader=f"trimesh {trimesh.__version__}",
        n_voxels=mask.size,
        n_different=len(np.setxor1d(found, _records(expected))),
        max_distance_mm=off_line,
        tolerance_mm=GRID_TOLERANCE * min(geometry.spacing),
        remark=remark,
    )


def _pairs_at(index: Array, geometry: Geometry) -> tuple[Array, float]:
    """Returns the pairs of neighbours that vertices lie between, and how far from the line at most, in mm.

    Vertices further off are those that marching cubes puts into the middle of a cell where its shape is ambiguous.
    """
    nearest = np.rint(index)
    off = np.abs(index - nearest)
    along = np.arange(3) == off.argmax(axis=1)[:, None]
    distances = np.linalg.norm(np.where(along, 0, off) * geometry.spacing, axis=1)
    on_line = distances <= GRID_TOLERANCE * min(geometry.spacing)
    lower = np.where(along, np.floor(index), nearest)
    pairs = np.column_stack([along.argmax(axis=1), lower]).astype(np.int32)[on_line]
    return _records(pairs), float(distances[on_line].max(initial=0.0))


def _records(pairs: Array) -> Array:
    return np.ascontiguousarray(pairs).view(PAIR).ravel()


def _pairs_along(axis: int, mask: Array) -> Array:
    """Returns axis and index of the lower voxel (n, 4) of each two neighbours of which one is in the mask.

    What lies outside of the image is not in the mask.
    """
    from scipy.ndimage import find_objects  # takes long to import

    (box,) = find_objects(mask.view(np.uint8))
    padded = np.pad(mask[box], [(1, 1) if i == axis else (0, 0) for i in range(3)])
    lower = np.argwhere(np.diff(padded, axis=axis)) + [part.start for part in box]
    lower[:, axis] -= 1
    return np.column_stack([np.full(len(lower), axis), lower]).astype(np.int32)
