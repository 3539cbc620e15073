"""DICOM segmentations made by hand, with pydicom alone: nothing of the writers is tested with the readers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"

Frame = tuple[int, tuple[float, float, float], np.ndarray]  # segment (0 in a label map), position, pixels (row, column)


def dataset(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def code(scheme: str, value: str, meaning: str) -> list[Dataset]:
    return [dataset(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


def write_seg(
    path: Path,
    frames: Sequence[Frame],
    *,
    names: dict[int, str] | None = None,
    kind: str = "BINARY",
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = (0.7, 0.5),
    thickness: float = 2.5,
    between: float | None = 2.5,
    shared_groups: bool = True,
    **tags: Any,
) -> Path:
    """``spacing``: mm between columns, rows. ``between``: SpacingBetweenSlices, left out when None. ``shared_groups``:
    what all frames have in common is in the shared functional groups, else in those of each."""
    header = _header(SegmentationStorage if kind != "LABELMAP" else LABEL_MAP_STORAGE, "SEG", "Organs")
    header.SegmentationType = kind
    header.SegmentSequence = [
        dataset(
            SegmentNumber=number,
            SegmentLabel=name,
            SegmentedPropertyCategoryCodeSequence=code("SCT", "123037004", "Anatomical Structure"),
            SegmentedPropertyTypeCodeSequence=code("SCT", "10200004", "Liver"),
        )
        for number, name in (names or {number: f"organ {number}" for number in {f[0] for f in frames}}).items()
    ]
    measures = dataset(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=thickness)
    if between is not None:
        measures.SpacingBetweenSlices = between
    common = {
        "PixelMeasuresSequence": [measures],
        "PlaneOrientationSequence": [dataset(ImageOrientationPatient=[float(f"{v:.12g}") for v in orientation])],
    }
    header.SharedFunctionalGroupsSequence = [dataset(**common) if shared_groups else Dataset()]
    groups = []
    for number, position, _ in frames:
        group = dataset(PlanePositionSequence=[dataset(ImagePositionPatient=[float(f"{v:.10g}") for v in position])])
        if kind != "LABELMAP":
            group.SegmentIdentificationSequence = [dataset(ReferencedSegmentNumber=number)]
        for keyword, value in common.items() if not shared_groups else ():
            setattr(group, keyword, value)
        groups.append(group)
    header.PerFrameFunctionalGroupsSequence = groups
    pixels = np.stack([pixels for *_, pixels in frames])
    header.NumberOfFrames, header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated = header.BitsStored = 1 if kind == "BINARY" else pixels.dtype.itemsize * 8
    header.HighBit = header.BitsStored - 1
    header.PixelData = pack_bits(pixels.astype(np.uint8)) if kind == "BINARY" else pixels.tobytes()
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    header.save_as(path, enforce_file_format=True)
    return path


def write_rtstruct(
    path: Path,
    rois: dict[str, Sequence[Any]],
    *,
    kinds: Sequence[str] = ("CLOSED_PLANAR",),
    first_number: int = 1,
    referenced_series: str = "1.2.3",
    **observation: Any,
) -> Path:
    """``rois``: contours of each by name, corners (n, 3) in LPS mm. ``kinds``: geometric types, repeated as needed."""
    header = _header(RTStructureSetStorage, "RTSTRUCT", "Plan")
    header.StructureSetLabel = "Targets"
    series = dataset(RTReferencedSeriesSequence=[dataset(SeriesInstanceUID=referenced_series)])
    header.ReferencedFrameOfReferenceSequence = [
        dataset(FrameOfReferenceUID="1.2.3.4", RTReferencedStudySequence=[series])
    ]
    numbers = range(first_number, first_number + len(rois))
    header.StructureSetROISequence = [
        dataset(ROINumber=number, ROIName=name) for number, name in zip(numbers, rois, strict=True)
    ]
    header.ROIContourSequence = [
        dataset(
            ReferencedROINumber=number,
            ROIDisplayColor=[10 * number, 20, 30],
            ContourSequence=[
                dataset(
                    ContourGeometricType=kinds[i % len(kinds)],
                    NumberOfContourPoints=len(corners),
                    ContourData=[f"{v:.8f}"[:16] for v in np.ravel(corners)],
                )
                for i, corners in enumerate(contours)
            ],
        )
        for number, contours in zip(numbers, rois.values(), strict=True)
    ]
    header.RTROIObservationsSequence = [
        dataset(ObservationNumber=number, ReferencedROINumber=number, **observation) for number in numbers
    ]
    header.save_as(path, enforce_file_format=True)
    return path


def write_enhanced(folder: Path, stored: np.ndarray, frames: list[dict[str, Any]], **tags: Any) -> Path:
    """One enhanced MR object. ``frames`` gives each frame's groups: ``position`` (LPS mm), and sequences by keyword."""
    header = _header(EnhancedMRImageStorage, "MR", "Brain")
    header.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    header.NumberOfFrames, header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.SharedFunctionalGroupsSequence = [
        groups(
            PlaneOrientationSequence={"ImageOrientationPatient": list(AXIAL)},
            PixelMeasuresSequence={"PixelSpacing": [1.2, 0.8], "SliceThickness": 3},
        )
    ]
    header.PerFrameFunctionalGroupsSequence = [
        groups(PlanePositionSequence={"ImagePositionPatient": frame.pop("position")}, **frame) for frame in frames
    ]
    for name, value in tags.items():
        setattr(header, name, value)
    header.PixelData = stored.tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    header.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return folder / "enhanced.dcm"


def groups(**items: dict[str, Any]) -> Dataset:
    """Functional groups of one item each."""
    return dataset(**{sequence: [dataset(**tags)] for sequence, tags in items.items()})


def _header(sop_class: str, modality: str, description: str) -> FileDataset:
    header = new_header(sop_class)
    header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID = "P1", generate_uid(), generate_uid()
    header.Modality, header.SeriesDescription, header.FrameOfReferenceUID = modality, description, "1.2.3.4"
    return header


def new_header(sop_class: str) -> FileDataset:
    """Of a file of this kind, with a UID of its own."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    return header
