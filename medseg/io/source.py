"""Where the voxels of one image, or the outlines of one segmentation, come from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from medseg.errors import Problem
from medseg.volume import Spacing3

# "pair": Analyze or NIfTI in two files, of which the header is the first.
ImageKind = Literal["nifti", "pair", "dicom", "image2d", "pictures", "itk"]
# Hold named segments rather than the voxels of an image.
SegmentationKind = Literal["dicom_seg", "rtstruct", "seg_nrrd"]
Kind = ImageKind | SegmentationKind

SEGMENTATIONS: tuple[Kind, ...] = get_args(SegmentationKind)


@dataclass(frozen=True)
class ImageSource:
    """One image or segmentation on disk.

    ``path`` is what is shown to the user (the file; the folder of the series). ``files`` are the slices of a
    DICOM series in order of their position, and just the file for the other kinds. Where one file holds several
    slices, it is repeated, and ``frames`` says which of its frames (from 0) each slice is.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...]
    frames: tuple[int, ...] = ()  # as long as ``files``, or empty: each file is a slice (or a mosaic of slices)
    structure: str = ""  # what is drawn, where a file holds the mask of one structure: "liver"
    part: str = ""  # which volume of a series that holds several: "echo-2", "time-03", "b-1000"
    modality: str = ""  # "CT", "MR", "PT", … where DICOM says so
    description: str = ""  # SeriesDescription
    derived: str = ""  # what was computed rather than acquired: "an ADC map"; taken only where nothing else is there
    series_uid: str = ""
    patient_id: str = ""
    study_uid: str = ""
    frame_of_reference_uid: str = ""
    refers_to: tuple[str, ...] = ()  # the series UIDs that a DICOM SEG or RTSTRUCT says it was drawn on
    notes: tuple[str, ...] = field(default=())
    spacing: Spacing3 | None = None  # mm, in array-axis order: what the user says, where the header is wrong

    @property
    def has_segments(self) -> bool:
        """Whether what is drawn in it has a name, rather than a label value."""
        return self.kind in SEGMENTATIONS or bool(self.structure)


class Found(NamedTuple):
    """What a search found: ``found = image_sources(folder)``."""

    sources: tuple[ImageSource, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()  # what was left out on purpose
    segmentations: tuple[ImageSource, ...] = ()  # DICOM SEG, RTSTRUCT and .seg.nrrd
