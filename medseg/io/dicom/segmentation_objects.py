"""DICOM objects that hold named segments: which a header describes, what they were drawn on, and their codes."""

from collections.abc import Iterator

from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from medseg.io.dicom.header import Header
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


def segmentation_source(header: Header) -> ImageSource | None:
    """Returns the DICOM SEG or RTSTRUCT that a header describes; None for all else.

    Args:
        header: Read with ``SEGMENTATION_KEYWORDS``.

    Raises:
        SourceError: The header cannot be read.
    """
    kind = KINDS.get(header.sop_class)
    if kind is None:
        return None
    labels = ("SeriesDescription", "ContentLabel") if kind == "dicom_seg" else ("StructureSetLabel", "StructureSetName")
    names = (header.text(keyword) for keyword in (*labels, "SeriesDescription"))
    return ImageSource(
        kind=kind,
        path=header.path,
        files=(header.path,),
        modality=header.text("Modality"),
        description=next((name for name in names if name), ""),
        series_uid=header.text("SeriesInstanceUID"),
        patient_id=header.text("PatientID"),
        study_uid=header.text("StudyInstanceUID"),
        frame_of_reference_uid=next((uid for uid in _frames_of_reference(header) if uid), ""),
        refers_to=tuple(dict.fromkeys(_referenced_series(header))),
    )


def _frames_of_reference(header: Header) -> Iterator[str]:
    """Yields the frames of reference of a segmentation, the most telling first.

    An RTSTRUCT's own (PS3.3, C.7.4.1) says less than those of what it outlines, and is often missing.
    """
    for item in header.items("ReferencedFrameOfReferenceSequence"):
        yield item.text("FrameOfReferenceUID")
    for item in header.items("StructureSetROISequence"):
        yield item.text("ReferencedFrameOfReferenceUID")
    yield header.text("FrameOfReferenceUID")


def _referenced_series(header: Header) -> Iterator[str]:
    for series in header.items("ReferencedSeriesSequence"):
        yield series.text("SeriesInstanceUID")
    for frame_of_reference in header.items("ReferencedFrameOfReferenceSequence"):
        for study in frame_of_reference.items("RTReferencedStudySequence"):
            for series in study.items("RTReferencedSeriesSequence"):
                yield series.text("SeriesInstanceUID")


def code_in(header: Header, keyword: str) -> Code | None:
    """Returns the first item of a code sequence (PS3.3, 8.8); None where there is none, or an empty one.

    Args:
        header: That holds the sequence.
        keyword: Of the sequence.
    """
    item = header.item(keyword)
    value = next((v for v in (item.text(f"{kind}Value") for kind in ("Code", "LongCode", "URNCode")) if v), "")
    scheme, meaning = item.text("CodingSchemeDesignator"), item.text("CodeMeaning")
    return Code(scheme=scheme, value=value, meaning=meaning) if value else None
