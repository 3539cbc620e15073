"""One volume of a file that holds several, such as time points: the part ``volume-2`` of an image source.

DICOM series have parts too; there ``dicom.series`` splits them.
"""

from dataclasses import replace
from math import prod

from medseg.io.dicom.volumes import ATTRIBUTES
from medseg.io.nifti.reader import open_nifti
from medseg.io.nrrd.reader import open_itk
from medseg.io.source import ImageSource
from medseg.volume import Volume

VOLUME = "volume"
STARTS = tuple({f"{name}-" for name in (VOLUME, *(attribute.name for attribute in ATTRIBUTES))})


def may_be_part(name: str) -> bool:
    """Says whether the last part of a path may name a volume: ``volume-2``, ``time-03``, ``b-1000``."""
    return name.startswith(STARTS)


def volumes_of(source: ImageSource) -> list[ImageSource]:
    """Finds the volumes of a NIfTI, NRRD or MetaImage file that holds several, each a source of its own.

    Returns:
        The volumes; none where the file holds one, or is of another kind.

    Raises:
        SourceError: The file is damaged.
    """
    n = 1 if source.frames else _n_volumes(source)
    return [replace(source, frames=(i,), part=volume_name(i, n)) for i in range(n)] if n > 1 else []


def volume_name(number: int, n: int) -> str:
    """Returns the name of one of several volumes; names count from 1.

    Args:
        number: Of the volume, from 0.
        n: How many there are.
    """
    return f"{VOLUME}-{number + 1:0{len(str(n))}d}"


def chosen_part(volume: Volume, source: ImageSource) -> Volume:
    """Returns what a source stands for, of all that its file holds.

    Args:
        volume: All of the file.
        source: Whose ``frames`` are chosen; all where there are none.
    """
    return Volume(volume.array[list(source.frames)], volume.geometry) if source.frames else volume


def _n_volumes(source: ImageSource) -> int:
    """Returns how many volumes a file holds: as many as reading it gives channels."""
    if source.kind in ("nifti", "pair"):
        return prod(int(n) for n in open_nifti(source.path).shape[3:])
    if source.kind == "itk":
        n_components, _, _, *others = open_itk(source.path).shape
        return n_components * prod(others[1:])
    return 1
