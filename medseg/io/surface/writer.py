"""Structures as closed surfaces, STL and OBJ, in LPS mm: what 3D Slicer takes surface files to be in, and what their
first line says (``SPACE=LPS``)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medseg.files import written_whole
from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.io.label_map_volume import LabelMapVolume, with_names
from medseg.progress import warn
from medseg.volume import Array, Geometry, box_of

Vertices = npt.NDArray[np.floating]  # (n, 3)
Faces = npt.NDArray[np.integer]  # (n, 3): indices of vertices, counter-clockwise as seen from outside

COMMENT = "medseg SPACE=LPS UNIT=mm"

# The volume inside is that of the voxels, but for this part of it.
VOLUME_TOLERANCE = 0.005

SMOOTHING = 1.0  # standard deviation in voxels
# How far the smoothed mask stays away from one half at the centres of voxels. The less, the smoother; but structures of
# a few voxels reach their volume only with more.
MARGINS = (0.03, 0.1, 0.4)
WITHIN_MARGIN = 0.95
MOST_STEPS = 12

STL_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def write_stl(folder: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes the surface of each structure that has voxels as binary STL, in LPS mm.

    Args:
        folder: Where the files are to lie.
        segmented: The label map with its grid and labels.

    Returns:
        The files.

    Raises:
        OutputError: A file cannot be written.
    """
    return _write_surfaces(_write_stl, ".stl", folder, segmented)


def write_obj(folder: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes the surface of each structure that has voxels as Wavefront OBJ, in LPS mm.

    Args:
        folder: Where the files are to lie.
        segmented: The label map with its grid and labels.

    Returns:
        The files.

    Raises:
        OutputError: A file cannot be written.
    """
    return _write_surfaces(_write_obj, ".obj", folder, segmented)


def surface(mask: Array, geometry: Geometry) -> tuple[Vertices, Faces] | None:
    """Returns the closed surface of a mask, closed at the border of the image too; None where the mask is empty.

    Marching cubes run on the smoothed mask, which is kept above one half at the centres of the mask's voxels and below
    at all others: exactly the mask's voxels have their centres inside. Within that margin, the level is the one that
    encloses the volume of the voxels.

    Args:
        mask: Boolean ``(x, y, z)``.
        geometry: Its grid, in RAS mm.

    Returns:
        Vertices ``(n, 3)`` in LPS mm, and faces ``(n, 3)`` as indices of these, counter-clockwise as seen from outside.

    Source:
        Lewiner et al. 2003, doi:10.1080/10867651.2003.10487582.
    """
    box = box_of(mask)
    if box is None:
        return None
    vertices, faces = _level_set(np.pad(mask[box], 1))
    to_lps = LPS_TO_RAS @ geometry.affine
    index = vertices.astype(np.float64) + [part.start - 1 for part in box]
    is_mirrored = np.linalg.det(to_lps[:3, :3]) < 0
    return index @ to_lps[:3, :3].T + to_lps[:3, 3], faces[:, ::-1] if is_mirrored else faces


def _level_set(mask: Array) -> tuple[Vertices, Faces]:
    """Returns the surface of a mask with a border of zeros, in voxel indices."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(mask.astype(np.float32), SMOOTHING, mode="constant")
    for margin in MARGINS:
        field = np.where(mask, np.maximum(smooth, 0.5 + margin), np.minimum(smooth, 0.5 - margin))
        vertices, faces, volume = _enclosing(field, int(mask.sum()), margin * WITHIN_MARGIN)
        if abs(volume - 1) <= VOLUME_TOLERANCE:
            break
    return vertices, faces


def _enclosing(field: Array, n_voxels: int, margin: float) -> tuple[Vertices, Faces, float]:
    """Returns the surface of the level that encloses so many voxels, and what it does enclose, as a part of them.

    The level is at most ``margin`` from one half. It is found by false position: the volume is nearly linear in the
    level.
    """
    low, high = 0.5 - margin, 0.5 + margin
    of_low, of_high = _at_level(field, low, n_voxels), _at_level(field, high, n_voxels)
    found = of_low if of_low[2] < 1 else of_high
    for _ in range(MOST_STEPS):
        if abs(found[2] - 1) <= VOLUME_TOLERANCE or not of_high[2] < 1 < of_low[2]:
            break
        level = low + (high - low) * (of_low[2] - 1) / (of_low[2] - of_high[2])
        found = _at_level(field, level, n_voxels)
        if found[2] > 1:
            low, of_low = level, found
        else:
            high, of_high = level, found
    return found


def _at_level(field: Array, level: float, n_voxels: int) -> tuple[Vertices, Faces, float]:
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(field, level, gradient_direction="ascent")
    a, b, c = np.moveaxis(vertices.astype(np.float64)[faces], 1, 0)
    return vertices, faces, float((a * np.cross(b, c)).sum() / 6 / n_voxels)


def _write_surfaces(
    write: Callable[[Path, Vertices, Faces], None], suffix: str, folder: Path, segmented: LabelMapVolume
) -> list[Path]:
    written = {}
    for structure, path in segmented.files(folder, suffix):
        triangles = surface(segmented.mask(structure), segmented.geometry)
        if triangles is None:
            warn(f"{path}: no voxel of {structure.name}, so no surface is written")
            continue
        with written_whole(path) as temporary:
            write(temporary, *triangles)
        written[path] = structure.name
    return with_names(written)


def _write_stl(path: Path, vertices: Vertices, faces: Faces) -> None:
    records = np.zeros(len(faces), dtype=STL_FACE)
    records["corners"] = corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    records["normal"] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(float).tiny)
    path.write_bytes(COMMENT.encode().ljust(80) + np.uint32(len(faces)).tobytes() + records.tobytes())


def _write_obj(path: Path, vertices: Vertices, faces: Faces) -> None:
    with path.open("w", encoding="ascii") as stream:
        stream.write(f"# {COMMENT}\n")
        np.savetxt(stream, vertices, "v %.6f %.6f %.6f")
        np.savetxt(stream, faces + 1, "f %d %d %d")
