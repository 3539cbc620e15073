"""DICOM objects that hold named segments: which a header describes, what they were drawn on, and their codes."""

from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from medseg.io.source import ImageSource, SegmentationKind
from medseg.terminology import Code

# Label map segmentations are younger than the oldest pydicom that reads them (PS3.3, A.51; supplement 243).
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"

KINDS: dict[str, SegmentationKind] = {
    SegmentationStorage: "dicom_seg",
    LABEL_MAP_STORAGE: "dicom_seg",
    RTStructureSetStorage: "rtstruct",
}

# Tags that ``segmentation_source`` needs. None is as long as the contours or frames are.
SEGMENTATION_KEYWORDS = (
    "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "SpecificCharacterSet",
    "SeriesDescription", "ContentLabel", "StructureSetLabel", "StructureSetName", "FrameOfReferenceUID",
    "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence", "StructureSetROISequence",
)  # fmt: skip


def segmentation_source(header: Dataset, path: Path) -> ImageSource | None:
    """The DICOM SEG or RTSTRUCT that a header describes, read with ``SEGMENTATION_KEYWORDS``; None for all else."""
    kind = KINDS.get(_text(header, "SOPClassUID"))
    if kind is None:
        return None
    labels = ("SeriesDescription", "ContentLabel") if kind == "dicom_seg" else ("StructureSetLabel", "StructureSetName")
    names = (_text(header, keyword) for keyword in (*labels, "SeriesDescription"))
    return ImageSource(
        kind=kind,
        path=path,
        files=(path,),
        modality=_text(header, "Modality"),
        description=next((name for name in names if name), ""),
        series_uid=_text(header, "SeriesInstanceUID"),
        patient_id=_text(header, "PatientID"),
        study_uid=_text(header, "StudyInstanceUID"),
        frame_of_reference_uid=next((uid for uid in _frames_of_reference(header) if uid), ""),
        refers_to=tuple(dict.fromkeys(_referenced_series(header))),
    )


def _frames_of_reference(header: Dataset) -> Iterator[str]:
    """An RTSTRUCT's own (PS3.3, C.7.4.1) says less than those of what it outlines, and is often missing."""
    for item in header.get("ReferencedFrameOfReferenceSequence") or ():
        yield _text(item, "FrameOfReferenceUID")
    for item in header.get("StructureSetROISequence") or ():
        yield _text(item, "ReferencedFrameOfReferenceUID")
    yield _text(header, "FrameOfReferenceUID")


def _referenced_series(header: Dataset) -> Iterator[str]:
    for series in header.get("ReferencedSeriesSequence") or ():
        yield _text(series, "SeriesInstanceUID")
    for frame_of_reference in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame_of_reference.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield _text(series, "SeriesInstanceUID")


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def code_in(dataset: Dataset, keyword: str) -> Code | None:
    """The first item of a code sequence (PS3.3, 8.8); None where there is none, or an empty one."""
    items = dataset.get(keyword)
    if not items:
        return None
    value = next((v for v in (_text(items[0], f"{kind}Value") for kind in ("Code", "LongCode", "URNCode")) if v), "")
    scheme, meaning = _text(items[0], "CodingSchemeDesignator"), _text(items[0], "CodeMeaning")
    return Code(scheme=scheme, value=value, meaning=meaning) if value else None
