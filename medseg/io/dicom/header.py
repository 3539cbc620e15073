"""Headers of DICOM files: which files are DICOM, and the tags that reading images needs."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom

from medseg.errors import Problem, reason_of
from medseg.io.dicom.frames import FRAME_KEYWORDS
from medseg.io.dicom.geometry import NEEDED
from medseg.io.dicom.objects import SEGMENTATION_KEYWORDS
from medseg.io.dicom.volumes import VOLUME_TAGS
from medseg.io.folders import is_nifti, is_picture

KEYWORDS = (
    *NEEDED, *FRAME_KEYWORDS, *SEGMENTATION_KEYWORDS,
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality",
    "FrameOfReferenceUID", "SpecificCharacterSet", "SeriesDescription", "ImageType", "SamplesPerPixel",
    "BitsStored", "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence",
)  # fmt: skip
TAGS = sorted({*(int(tag) for tag in map(tag_for_keyword, KEYWORDS) if tag is not None), *VOLUME_TAGS})

PIXEL_KEYWORDS = (
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "BitsAllocated", "HighBit", "PixelRepresentation",
    "PhotometricInterpretation", "PlanarConfiguration", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip
PIXEL_TAGS = sorted({*TAGS, *(int(tag) for tag in map(tag_for_keyword, PIXEL_KEYWORDS) if tag is not None)})

# Bytes in which nearly every header of a classic file ends.
USUAL_HEADER = 2**16

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Lie beside DICOM files and are nobody's mistake.
COMPANIONS = ("dicomdir", "license", "licence", "readme", "copying", "version", "changelog", "notice")


@dataclass(frozen=True)
class Header:
    """What a DICOM file says of itself, without pixels."""

    path: Path
    dataset: Dataset

    def text(self, keyword: str) -> str:
        return str(self.dataset.get(keyword) or "").strip()

    @property
    def series_name(self) -> str:
        return self.text("SeriesDescription") or self.text("SeriesInstanceUID")


def read_headers(files: Iterable[Path]) -> tuple[list[Header], list[Problem]]:
    """Of all DICOM files among ``files``, and a problem for each that claims to be one but isn't."""
    headers, failures = [], []
    for path in files:
        try:
            if _may_be_dicom(path):
                headers.append(Header(path, read_header(path)))
        except Exception as error:  # pydicom raises many kinds on damaged files; each becomes a problem
            failures.append((path, reason_of(error)))
    folders = {header.path.parent for header in headers}
    problems = [
        Problem("", path, f"{path}: is not a DICOM file, or a damaged one ({reason}); left out")
        for path, reason in failures
        if path.suffix.lower() in DICOM_SUFFIXES or (_has_no_suffix(path) and path.parent in folders)
    ]
    return headers, problems


def read_header(path: Path) -> Dataset:
    """The tags of ``TAGS``. Raises ``InvalidDicomError``, and whatever pydicom raises on a damaged file."""
    with path.open("rb") as stream:
        start = stream.read(USUAL_HEADER)
        if not start:
            raise InvalidDicomError("the file is empty")
        header = _from_start(start) or _parsed(stream, start)
    list(header)  # converts all values, so that none fails later
    if not header.get("SOPClassUID"):
        raise InvalidDicomError("it has no SOPClassUID")
    return header


def _from_start(start: bytes) -> Dataset | None:
    """Parsed in memory, which takes half the time; None when the header is longer, or damaged."""
    memory = BytesIO(start)
    try:
        header = _parsed(memory, start)
    except Exception:  # whether it is damaged or only longer, the whole file will tell
        return None
    return header if memory.tell() < len(start) else None


def _parsed(stream: BinaryIO, start: bytes) -> Dataset:
    # Without a preamble, a file that starts with a small tag of group 0002 or 0008 is worth a try.
    bare = start[128:132] != b"DICM" and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"
    stream.seek(0)
    return dcmread(stream, stop_before_pixels=True, specific_tags=TAGS, force=bare)


def grouped_by_series(headers: Iterable[Header]) -> list[list[Header]]:
    groups = defaultdict(list)
    for header in headers:
        key = tuple(header.text(name) for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
        groups[key].append(header)
    return list(groups.values())


def _may_be_dicom(path: Path) -> bool:
    if path.name.lower().split(".")[0] in COMPANIONS or is_nifti(path) or is_picture(path):
        return False
    return path.suffix.lower() in DICOM_SUFFIXES or _has_no_suffix(path) or is_dicom(path)


def _has_no_suffix(path: Path) -> bool:
    """Also true for names that are UIDs, such as ``MR.1.2.840.113619``."""
    return path.suffix == "" or path.suffix[1:].isdigit()
