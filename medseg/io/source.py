"""Where the voxels of one image come from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from medseg.errors import Problem

Kind = Literal["nifti", "dicom", "image2d"]


@dataclass(frozen=True)
class ImageSource:
    """One image on disk: a NIfTI file, the files of one DICOM series, or a 2D picture.

    ``path`` is what is shown to the user (the file; the folder of the series). ``files`` are the slices of a
    DICOM series in order of their position, and just the file for the other kinds.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...]
    modality: str = ""  # "CT", "MR", "PT", … where DICOM says so
    description: str = ""  # SeriesDescription
    series_uid: str = ""
    patient_id: str = ""
    study_uid: str = ""
    notes: tuple[str, ...] = field(default=())


class Found(NamedTuple):
    """What a search for images found: ``sources, problems, notes = find_series(folder)``."""

    sources: tuple[ImageSource, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()  # what was left out on purpose
