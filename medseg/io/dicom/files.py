"""DICOM files: which files are such, and their headers, with the tags that reading images needs."""

from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.errors import Problem, reason_of
from medseg.io.dicom.frames import FRAME_KEYWORDS
from medseg.io.dicom.geometry import PLACE_KEYWORDS
from medseg.io.dicom.header import FILES_KEPT, FileHeader, Header, StoredPixels
from medseg.io.dicom.pixels import PIXEL_KEYWORDS
from medseg.io.dicom.segmentation_objects import SEGMENTATION_KEYWORDS
from medseg.io.dicom.volumes import VOLUME_TAGS
from medseg.io.folders import is_nifti, is_picture

# Whose it is, and when it was made (``examination``).
EXAMINATION_KEYWORDS = (
    "PatientName", "PatientBirthDate", "PatientSex", "PatientIdentityRemoved", "StudyDate", "StudyDescription",
    "BurnedInAnnotation",
)  # fmt: skip

KEYWORDS = (
    *PLACE_KEYWORDS, *FRAME_KEYWORDS, *SEGMENTATION_KEYWORDS, *PIXEL_KEYWORDS,
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality",
    "FrameOfReferenceUID", "SpecificCharacterSet", "SeriesDescription", "ImageType", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", *EXAMINATION_KEYWORDS,
)  # fmt: skip
TAGS = sorted({*(int(tag) for tag in map(tag_for_keyword, KEYWORDS) if tag is not None), *VOLUME_TAGS})

# Bytes in which nearly every header of a classic file ends.
USUAL_HEADER = 2**16

# (7FE0,0010) and its kin, and their value representations.
PIXEL_ELEMENTS = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}
PIXEL_VRS = ("OB", "OW", "OF", "OD", "UN")
UNDEFINED_LENGTH = 0xFFFFFFFF

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Lie beside DICOM files and are nobody's mistake.
COMPANIONS = ("dicomdir", "license", "licence", "readme", "copying", "version", "changelog", "notice")


def read_headers(files: Iterable[Path]) -> tuple[list[FileHeader], list[Problem]]:
    """Reads the headers of all DICOM files among these.

    Args:
        files: Of any kind.

    Returns:
        The headers, and a problem for each file that claims to be DICOM but isn't.
    """
    headers, failures = [], []
    for path in files:
        try:
            if _may_be_dicom(path):
                headers.append(read_header(path))
        except Exception as error:  # pydicom raises many kinds on damaged files; each becomes a problem
            failures.append((path, reason_of(error)))
    folders = {header.path.parent for header in headers}
    problems = [
        Problem("", path, f"{path}: is not a DICOM file, or a damaged one ({reason}); left out")
        for path, reason in failures
        if path.suffix.lower() in DICOM_SUFFIXES or (_has_no_suffix(path) and path.parent in folders)
    ]
    return headers, problems


def read_header(path: Path) -> FileHeader:
    """Reads the tags of ``TAGS``; the pixels are not read.

    Raises:
        InvalidDicomError: The file is empty, or no image. What pydicom raises for damaged files comes as it is.
    """
    status = path.stat()
    return _read_header(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=FILES_KEPT)  # a file with many volumes is asked for once a volume
def _read_header(path: Path, size: int, _changed: int) -> FileHeader:
    with path.open("rb") as stream:
        start = stream.read(USUAL_HEADER)
        if not start:
            raise InvalidDicomError("the file is empty")
        header = _from_start(path, start, size) or _parsed(path, stream, start, size)
    if not header.sop_class and "Rows" not in header:
        raise InvalidDicomError("it has no SOPClassUID")
    return header


def _from_start(path: Path, start: bytes, size: int) -> FileHeader | None:
    """Parses the start of a file in memory, which takes half the time; None when the header is longer, or damaged."""
    memory = BytesIO(start)
    try:
        header = _parsed(path, memory, start, size)
    except Exception:  # whether it is damaged or only longer, the whole file will tell
        return None
    return header if memory.tell() < len(start) else None


def _parsed(path: Path, stream: BinaryIO, start: bytes, size: int) -> FileHeader:
    # Without a preamble, a file that starts with a small tag of group 0002 or 0008 is worth a try.
    bare = start[128:132] != b"DICM" and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"
    stream.seek(0)
    dataset = dcmread(stream, stop_before_pixels=True, specific_tags=TAGS, force=bare)
    end = stream.tell()
    syntax = _syntax(path, dataset)
    pixels = _pixels_at(stream, dataset) if syntax != DeflatedExplicitVRLittleEndian else _deflated(dataset)
    stream.seek(end)
    return FileHeader(path, dataset, size=size, syntax=syntax, pixels=pixels)


def _syntax(path: Path, dataset: FileDataset) -> UID:
    """Returns the transfer syntax; without a preamble there is none, and pydicom has guessed it."""
    named = Header(path, dataset.file_meta).text("TransferSyntaxUID")
    implicit, _ = dataset.original_encoding
    return UID(named) if named else ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _pixels_at(stream: BinaryIO, dataset: FileDataset) -> StoredPixels | None:
    """Returns the pixels that begin where parsing has stopped."""
    is_implicit, is_little = dataset.original_encoding
    order: Literal["little", "big"] = "little" if is_little else "big"
    offset, start = stream.tell(), stream.read(12)
    group, element = int.from_bytes(start[:2], order), int.from_bytes(start[2:4], order)
    vr = "OW" if is_implicit else start[4:6].decode("ascii", "replace")
    if len(start) < 12 or group != 0x7FE0 or element not in PIXEL_ELEMENTS or vr not in PIXEL_VRS:
        return None
    n_before = 8 if is_implicit else 12
    length = int.from_bytes(start[n_before - 4 : n_before], order)
    return StoredPixels(PIXEL_ELEMENTS[element], vr, offset + n_before, None if length == UNDEFINED_LENGTH else length)


def _deflated(dataset: Dataset) -> StoredPixels | None:
    """Returns pixels whose place is not known until they are inflated."""
    return StoredPixels("PixelData", "OW", 0, 0) if "Rows" in dataset else None


def _may_be_dicom(path: Path) -> bool:
    if path.name.lower().split(".")[0] in COMPANIONS or is_nifti(path) or is_picture(path) or not path.is_file():
        return False
    return path.suffix.lower() in DICOM_SUFFIXES or _has_no_suffix(path) or is_dicom(path)


def _has_no_suffix(path: Path) -> bool:
    """Says whether a name has no suffix; one that is a UID, such as ``MR.1.2.840.113619``, has none either."""
    return path.suffix == "" or path.suffix[1:].isdigit()
