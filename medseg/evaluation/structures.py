"""Masks that have a file for each structure, and the label value that stands for each structure in a label map."""

from pathlib import Path

from medseg.dataset.layouts.structure_masks import structure_of
from medseg.io.discover import sources_among
from medseg.io.folders import is_hidden, is_itk, is_nifti, stem
from medseg.io.source import ImageSource
from medseg.labels import Labels

SURFACES = ("_stl", "_obj")  # ends of the names of folders that ``predict`` writes


def masks_in(folder: Path) -> tuple[ImageSource, ...]:
    """Returns the masks of a case that has a folder of its own; () where there is no such folder.

    They are named as names.json says, else as their files are.

    Raises:
        SourceError: A names.json cannot be read.
    """
    if not folder.is_dir():
        return ()
    files = [file for file in folder.iterdir() if not is_hidden(file.name) and (is_nifti(file) or is_itk(file))]
    return tuple(structure_of(source, stem(source.path)) for source in sources_among(files).sources)


def has_surfaces(folder: Path) -> bool:
    """Returns whether there are surfaces among what ``predict`` wrote."""
    return folder.is_dir() and any(each.is_dir() and each.name.endswith(SURFACES) for each in folder.iterdir())


def values_of_structures(labels: Labels) -> dict[str, int]:
    """Returns by name of a structure the label value of its voxels that lie in no structure inside of it.

    Written from the largest structure to the smallest, these make a label map. A structure that others fill has none.
    """
    unions = {structure.name: frozenset(structure.values) for structure in labels.structures}
    left = {
        name: values.difference(*(other for other in unions.values() if other < values))
        for name, values in unions.items()
    }
    return {name: min(values) for name, values in left.items() if values}
