"""Where the voxels of one image, or the outlines of one segmentation, come from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from medseg.errors import Problem
from medseg.volume import Spacing3

# "pair": Analyze or NIfTI in two files, of which the header is the first.
ImageKind = Literal["nifti", "pair", "dicom", "image2d", "pictures", "itk", "ome_zarr"]
# Hold named segments rather than the voxels of an image.
SegmentationKind = Literal["dicom_seg", "rtstruct", "seg_nrrd", "coco"]
Kind = ImageKind | SegmentationKind

SEGMENTATIONS: tuple[Kind, ...] = get_args(SegmentationKind)


@dataclass(frozen=True)
class ImageSource:
    """One image or segmentation on disk: where its voxels or outlines come from, and what its header says of it.

    Attributes:
        kind: The format, which says how it is read.
        path: What is shown to the user: the file, or the folder of a DICOM series.
        files: The slices of a DICOM series in order of their position; of other kinds just the file. A file with
            several slices is repeated.
        frames: Which frame of its file each slice is, from 0; as long as ``files``. Empty where each file is one slice,
            or a mosaic of slices.
        structure: What is drawn, where a file holds the mask of one structure: ``"liver"``.
        part: Which volume of a series or file that holds several: ``"echo-2"``, ``"time-03"``, ``"b-1000"``.
        modality: DICOM's: ``"CT"``, ``"MR"``, ``"PT"``, …; empty where nothing says it.
        description: DICOM's SeriesDescription.
        derived: What was computed rather than acquired: ``"an ADC map"``. Such images are taken only where nothing else
            is there.
        series_uid: DICOM's SeriesInstanceUID.
        patient_id: DICOM's PatientID.
        study_uid: DICOM's StudyInstanceUID.
        frame_of_reference_uid: DICOM's FrameOfReferenceUID: images with the same one share their coordinates.
        refers_to: The series UIDs that a DICOM SEG or RTSTRUCT says it was drawn on.
        notes: What was decided when the source was found, for the user.
        spacing: Edge lengths of a voxel in mm, in array-axis order, as the user says where the header is wrong; None
            where the header counts.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...]
    frames: tuple[int, ...] = ()
    structure: str = ""
    part: str = ""
    modality: str = ""
    description: str = ""
    derived: str = ""
    series_uid: str = ""
    patient_id: str = ""
    study_uid: str = ""
    frame_of_reference_uid: str = ""
    refers_to: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    spacing: Spacing3 | None = None

    @property
    def has_segments(self) -> bool:
        """Whether what is drawn in it has a name, rather than a label value."""
        return self.kind in SEGMENTATIONS or bool(self.structure)


class Found(NamedTuple):
    """What a search found: ``found = image_sources(folder)``.

    Attributes:
        sources: Images.
        problems: Files that cannot be read, each with the reason.
        notes: What was left out on purpose.
        segmentations: DICOM SEG, RTSTRUCT and ``.seg.nrrd``.
    """

    sources: tuple[ImageSource, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    segmentations: tuple[ImageSource, ...] = ()
