"""export: read a label map, bring it to the grid of a study, write it as one file or one a label."""

import re
from pathlib import Path

import numpy as np
from scipy.ndimage import affine_transform

from medseg.errors import GeometryError, LabelError, OutputError
from medseg.evaluation.pairs import labels_beside
from medseg.files import ensure_folder
from medseg.io.discover import source_of
from medseg.io.folders import is_nifti
from medseg.io.nifti import write_nifti
from medseg.io.read import read_geometry, read_volume
from medseg.labels import Labels
from medseg.progress import warn
from medseg.volume import Array, Geometry, Volume


def export(
    mask: str | Path,
    output: str | Path,
    *,
    like: str | Path | None = None,
    per_label: bool = False,
    labels: Labels | None = None,
) -> list[Path]:
    """Writes a label map as NIfTI, on the grid of the study ``like`` (any image that ``read_volume`` takes: a
    NIfTI file, a folder with one DICOM series, or a file of one) if given.

    On the same grid, flipped or permuted axes included, voxels are copied exactly. On another one, each voxel
    of the study gets the label at its place in the world (nearest neighbour; values are never mixed), with a
    warning.

    ``output`` is a .nii or .nii.gz file. With ``per_label`` it is a folder that gets one file of 0 and 1 for
    each of ``labels``, named after it; without ``labels`` the names come from predictions.json beside the
    mask, else from the values. Returns the paths written.

    Raises ``SourceError`` when a file cannot be read or the study holds several series, ``LabelError`` when
    the mask is no label map, ``GeometryError`` when none of the mask lies inside of the study,
    ``OutputError`` when a file cannot be written.
    """
    mask, output = Path(mask), Path(output)
    if output.exists() and any(output.samefile(path) for path in (mask, like) if path and Path(path).exists()):
        raise OutputError(f"{output} would be overwritten, and it is what is read; choose another -o")
    volume = _read_label_map(mask)
    header = None
    if like is not None:
        study = source_of(Path(like))
        volume = _on_grid(volume, read_geometry(study), mask, study.path)
        header = study.path if study.kind == "nifti" else None
    if not per_label:
        write_nifti(output, volume.label_map, volume.geometry, like=header)
        return [output]
    if is_nifti(output) and not output.is_dir():
        raise OutputError(f"{output}: --per-label writes several files; give a folder with -o")
    folder = ensure_folder(output)
    written = []
    for name, value in _named_values(volume.label_map, labels or labels_beside(mask), mask).items():
        binary = (volume.label_map == value).astype(np.uint8)
        if not binary.any():
            warn(f"{mask}: no voxel of {name}; its file is empty")
        path = folder / f"{name}.nii.gz"
        write_nifti(path, binary, volume.geometry, like=header)
        written.append(path)
    return written


def _read_label_map(mask: Path) -> Volume:
    volume = read_volume(mask)
    array = volume.array
    if len(array) != 1:
        raise LabelError(f"{mask} has {len(array)} channels; a label map has one")
    if not np.array_equal(array, np.rint(array)):
        raise LabelError(f"{mask} holds values that are not whole numbers; is it an image, not a label map?")
    if array.dtype.kind == "f":
        array = array.astype(np.result_type(*map(np.min_scalar_type, (int(array.min()), int(array.max())))))
    return Volume(array, volume.geometry)


def _on_grid(volume: Volume, grid: Geometry, mask: Path, like: Path) -> Volume:
    """The same labels on another grid: exactly where only the order of the voxels differs, else resampled."""
    oriented = volume.oriented_as(grid.orientation)
    difference = oriented.geometry.difference(grid)
    if difference is None:
        return Volume(oriented.array, grid)
    warn(f"{mask} lies on another grid than {like} ({difference}): resampled to it, nearest neighbour")
    to_mask = np.linalg.inv(volume.geometry.affine) @ grid.affine
    resampled: Array = affine_transform(
        volume.label_map, to_mask, output_shape=grid.shape, order=0, mode="grid-constant", prefilter=False
    )
    before, after = np.unique(volume.array), np.unique(resampled)
    lost = [int(value) for value in before if value != 0 and value not in after]
    if lost and not resampled.any():
        raise GeometryError(f"no label of {mask} lies inside of {like}; is it the study that was segmented?")
    if lost:
        warn(f"{mask}: no voxel is left of labels {lost} on the grid of {like}")
    return Volume(resampled[None], grid)


def _named_values(label_map: Array, labels: Labels | None, mask: Path) -> dict[str, int]:
    """Values by names that can be file names."""
    present = [int(value) for value in np.unique(label_map) if value != 0]
    if labels is None:
        return {f"label_{value}": value for value in present}
    unknown = sorted(set(present) - set(labels.values))
    if unknown:
        raise LabelError(f"{mask}: values {unknown} are not among the labels, {labels.values}")
    names = [re.sub(r"[^\w.-]+", "_", name) for name in labels.names]
    if len(set(names)) < len(names):
        names = [f"{name}_{value}" for name, value in zip(names, labels.values, strict=True)]
    return dict(zip(names, labels.values, strict=True))
