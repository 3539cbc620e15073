"""Files of a case that cannot stay where they are, in the prepared folder."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.dataset.cases import Case, LabelSource
from medseg.dataset.reading import Channel
from medseg.files import written_whole
from medseg.io.archives import is_unpacked
from medseg.io.folders import stem
from medseg.io.nifti.writer import write_nifti
from medseg.io.source import ImageSource
from medseg.volume import Array, Geometry

ONE_FILE = ("nifti", "image2d")  # kinds that can be copied


def kept_image(case: Case, number: int, channel: Channel, folder: Path) -> ImageSource:
    """Returns the image itself where it stays in place; else a copy of it in the prepared folder.

    Copies are one file a case, or one a channel with the suffix _0000, _0001, ….
    """
    source = channel.source
    as_it_is = source.kind != "dicom" and not source.part and not channel.resampled
    if as_it_is and not is_unpacked(source.path):
        return source
    name = f"{case.case_id}_{number:04d}" if len(case.images) > 1 else case.case_id
    if source.kind in ONE_FILE and as_it_is:
        return _copied(source, folder, name)
    array = channel.volume.array
    written = _written(folder / f"{name}.nii.gz", array[0] if len(array) == 1 else array, channel.volume.geometry)
    return replace(written, spacing=source.spacing)


def kept_label(case: Case, label_map: Array | None, geometry: Geometry, folder: Path) -> LabelSource | None:
    """Returns the label map itself where it stays in place; else a copy, as for named segments."""
    if case.label is None or label_map is None:
        return None
    source = case.label.sources[0]
    if case.label.values is None and not is_unpacked(source.path):
        return case.label
    if case.label.values is None and source.kind in ONE_FILE:
        return LabelSource((_copied(source, folder, case.case_id),))
    return written_label(case.case_id, label_map, geometry, folder)


def written_label(case_id: str, label_map: Array, geometry: Geometry, folder: Path) -> LabelSource:
    """Writes a label map, ``(x, y, z)``, into the prepared folder."""
    return LabelSource((_written(folder / f"{case_id}.nii.gz", label_map, geometry),))


def written_objects(case_id: str, objects: Array, geometry: Geometry, folder: Path) -> ImageSource:
    """Writes an object map, ``(x, y, z)``, into the prepared folder, in the smallest unsigned integers that hold it."""
    highest = int(objects.max(initial=0))
    return _written(folder / f"{case_id}.nii.gz", objects.astype(np.uint16 if highest < 2**16 else np.uint32), geometry)


def _written(path: Path, array: Array, geometry: Geometry) -> ImageSource:
    write_nifti(path, array, geometry)
    return ImageSource("nifti", path, (path,))


def _copied(source: ImageSource, folder: Path, name: str) -> ImageSource:
    path = folder / f"{name}{source.path.name.removeprefix(stem(source.path))}"
    with written_whole(path) as temporary:
        shutil.copyfile(source.path, temporary)
    return replace(source, path=path, files=(path,))
