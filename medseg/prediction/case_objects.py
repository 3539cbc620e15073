"""The objects of a case: their map, the table of them, and how many there are."""

from pathlib import Path

import numpy as np

from medseg.dataset.cases import Case
from medseg.dataset.reading import read_images
from medseg.files import ensure_folder, write_text
from medseg.instances.grouping import Objects
from medseg.instances.object_map import ObjectMap
from medseg.instances.object_table import object_table
from medseg.io.nifti.writer import write_nifti
from medseg.io.picture.exif import orientation_of
from medseg.io.picture.writer import write_image2d
from medseg.labels import Labels
from medseg.volume import GRID_TOLERANCE, Array, Geometry


def write_object_map(folder: Path, case: Case, object_map: Array, geometry: Geometry) -> Path:
    """Writes the object map of a case: a NIfTI, or, of a picture, a PNG, and a TIFF where a PNG cannot hold it.

    Args:
        folder: Where the file ``CASE.nii.gz``, ``CASE.png`` or ``CASE.tif`` goes.
        case: Its first image says how pixels are turned.
        object_map: ``(x, y, z)``: the number of the object of each voxel, or 0.
        geometry: Of the image.

    Returns:
        The file.
    """
    source = case.images[0]
    if source.kind != "image2d":
        path = folder / f"{case.case_id}.nii.gz"
        write_nifti(path, object_map, geometry)
        return path
    fits_png = object_map.shape[2] == 1 and int(object_map.max(initial=0)) < 2**16
    path = ensure_folder(folder) / f"{case.case_id}{'.png' if fits_png else '.tif'}"
    write_image2d(path, object_map, orientation_of(source.path))
    return path


def write_object_table(folder: Path, case: Case, objects: Objects, labels: Labels, geometry: Geometry) -> Path:
    """Writes ``CASE.csv``, the table of a case's objects, beside its object map.

    The image is read once more, since its own values are measured.

    Args:
        folder: Where the file goes.
        case: Whose objects they are.
        objects: What was found.
        labels: Of the model.
        geometry: Of the image, in mm.

    Returns:
        The file.
    """
    image = read_images(case, GRID_TOLERANCE, registered=True)
    table = object_table(
        with_label_values(objects, labels), labels, geometry, image, confidences=objects.peaks.tolist()
    )
    return write_text(folder / f"{case.case_id}.csv", table.as_csv())


def with_label_values(objects: Objects, labels: Labels) -> ObjectMap:
    """Returns objects with the values of their labels in place of those of the network.

    Args:
        objects: What was found.
        labels: Of the model.
    """
    values = np.array([0, *labels.values])[objects.values]
    names = tuple(map(str, range(1, len(values) + 1)))
    numbers = objects.object_map
    signed = numbers.view(np.int32) if numbers.dtype == np.uint32 else numbers.astype(np.int32)  # no copy of 4 GB
    return ObjectMap(signed, values, names)


def counts_by_label(objects: Objects | None, labels: Labels) -> dict[str, int]:
    """Returns how many objects of each label there are, by its name.

    Args:
        objects: What was found; None: of a model that tells none apart.
        labels: Of the model.
    """
    if objects is None:
        return {}
    return {labels.names[value - 1]: int((objects.values == value).sum()) for value in np.unique(objects.values)}
