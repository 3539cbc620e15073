"""Masks that have a file for each structure, and the label value that stands for each structure in a label map."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.dataset.reading import label_volume
from medseg.errors import LabelError
from medseg.io.discover import source_of
from medseg.io.folders import is_hidden, is_itk, is_nifti, stem
from medseg.io.masks.segmented import NAMES_FILE
from medseg.labels import Labels
from medseg.records import read_object
from medseg.volume import Array, Volume

SURFACES = ("_stl", "_obj")  # ends of the names of folders that ``predict`` writes


@dataclass(frozen=True)
class Part:
    """The mask of one structure; ``value`` stands for it in a label map."""

    path: Path
    name: str
    value: int = 0


def parts_in(folder: Path) -> tuple[Part, ...]:
    """The masks of a case that has a folder of its own, named as names.json says, else as their files are; () where
    there is no such folder. Raises ``SourceError`` for a names.json that cannot be read."""
    if not folder.is_dir():
        return ()
    names = read_object(folder / NAMES_FILE) if (folder / NAMES_FILE).is_file() else {}
    files = [file for file in sorted(folder.iterdir()) if not is_hidden(file.name) and (is_nifti(file) or is_itk(file))]
    return tuple(Part(file, str(names.get(file.name, stem(file)))) for file in files)


def has_surfaces(folder: Path) -> bool:
    """Whether there are surfaces among what ``predict`` wrote."""
    return folder.is_dir() and any(each.is_dir() and each.name.endswith(SURFACES) for each in folder.iterdir())


def values_of_structures(labels: Labels) -> dict[str, int]:
    """By name of a structure, the label value of its voxels that lie in no structure inside of it: written from the
    largest structure to the smallest, these make a label map. A structure that others fill has none."""
    unions = {structure.name: frozenset(structure.values) for structure in labels.structures}
    left = {
        name: values.difference(*(other for other in unions.values() if other < values))
        for name, values in unions.items()
    }
    return {name: min(values) for name, values in left.items() if values}


def put_together(parts: Mapping[Part, Volume], shape: tuple[int, ...]) -> Array:
    """A label map (x, y, z) of masks on one grid. Where they overlap, the one with fewer voxels lies on top: a core in
    its tumour."""
    top = np.zeros(shape, np.uint16)  # number of the structure, from 1
    sizes = [top.size + 1]
    for number, volume in enumerate(parts.values(), start=1):
        mask = volume.label_map != 0
        below = top[mask]
        sizes.append(len(below))
        top[mask] = np.where(np.array(sizes)[below] > len(below), number, below)
    label_map: Array = np.array([0, *(part.value for part in parts)])[top]
    return label_map


def read_part(part: Part) -> Volume:
    """Raises ``LabelError`` for more than one value beside the background, and what ``label_volume`` raises."""
    volume = label_volume(source_of(part.path))
    drawn = volume.array[volume.array != 0]
    if len(drawn) and (drawn != drawn[0]).any():
        raise LabelError(f"{part.path}: is taken for the mask of '{part.name}' alone, but holds several values")
    return volume
