"""Every element that is read, malformed in every way: it costs its file at most, and never the command."""

import contextlib
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_drawn import write_enhanced
from parameters import mostly_slow
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.errors import MedsegError
from medseg.io.dicom.examination import read_examination
from medseg.io.dicom.files import TAGS
from medseg.io.dicom.frames import GROUPS
from medseg.io.dicom.series import dicom_geometry, read_dicom, source_planes
from medseg.io.discover import image_sources
from medseg.io.source import ImageSource

WriteSlices = Callable[..., list[Path]]

AXIAL = (1, 0, 0, 0, 1, 0)
BINARY = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4, "OW": 2}  # bytes a value

# Encoded value and value representation, from the right representation.
WAYS: dict[str, Callable[[str], tuple[bytes, str]]] = {
    "two values": lambda vr: (b"\x01\x00" * BINARY[vr] if vr in BINARY else b"1\\2 ", vr if vr != "SQ" else "LO"),
    "twelve values": lambda vr: (b"\x07\x00" * 6 * BINARY[vr] if vr in BINARY else b"1\\2\\" * 6, "UN"),
    "text": lambda vr: (b"abc ", vr if vr not in (*BINARY, "SQ") else "LO"),
    "not finite": lambda vr: (b"nan ", vr if vr not in (*BINARY, "SQ") else "DS"),
    "empty": lambda vr: (b"", vr),
    "half a value": lambda vr: (b"\x01\xff\x00", vr if vr != "SQ" else "OB"),
    "rubbish": lambda vr: (b"\x9c\xff\x00\x1b$\xfe" * 3, "OB"),
    "a number": lambda vr: (b"\x05\x00", "US"),
    "not UTF-8": lambda vr: (b"\xff\xfe\\\xff", "UT" if vr != "SQ" else vr),
}


def encoded(tag: int, vr: str, value: bytes, is_implicit: bool) -> bytes:
    """An element as it stands in a file: pydicom refuses to write malformed ones."""
    number = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if is_implicit:
        return number + struct.pack("<I", len(value)) + value
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return number + vr.encode() + struct.pack("<HI", 0, len(value)) + value
    return number + vr.encode() + struct.pack("<H", len(value)) + value


def write_malformed(path: Path, whole: bytes, tag: int, way: str, is_implicit: bool) -> None:
    """The file ``whole`` with this element malformed, just before its pixels."""
    header = pydicom.dcmread(BytesIO(whole))
    pixels = header.PixelData
    del header.PixelData
    header.pop(tag, None)
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    pydicom.dcmwrite(path, header, implicit_vr=is_implicit, little_endian=True)
    value, vr = WAYS[way](dictionary_VR(tag).split(" ")[0])
    with path.open("ab") as stream:
        stream.write(encoded(tag, vr, value, is_implicit) + encoded(0x7FE00010, "OW", pixels, is_implicit))


def read_all(folder: Path) -> list[str]:
    """What was said of it, by everything that reads a header."""
    found = image_sources(folder)
    said = [*(problem.message for problem in found.problems), *found.notes]
    for source in found.sources:
        said += source.notes
        read_examination(source.files[0])
        for read in (dicom_geometry, read_dicom, source_planes):
            said += refusal(read, source)
    return said


def refusal(read: Callable[[ImageSource], object], source: ImageSource) -> list[str]:
    try:
        read(source)
    except MedsegError as error:
        return [str(error)]
    return []


@pytest.mark.filterwarnings("ignore")  # pydicom's, of character sets that are none
@pytest.mark.parametrize(
    ("way", "is_implicit"),
    [
        ("rubbish", False),
        ("text", True),
        *(pytest.param(way, False, marks=pytest.mark.slow) for way in WAYS if way != "rubbish"),
        *(pytest.param(way, True, marks=pytest.mark.slow) for way in ("two values", "rubbish")),
    ],
)
def test_an_element_of_one_file(tmp_path: Path, write_slices: WriteSlices, way: str, is_implicit: bool) -> None:
    stored = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    paths = write_slices(tmp_path, stored, orientation=AXIAL)
    whole = paths[2].read_bytes()
    for tag in TAGS:
        if Tag(tag).is_private:
            continue
        write_malformed(paths[2], whole, tag, way, is_implicit)
        found = image_sources(tmp_path)
        said = read_all(tmp_path)
        n_read = sum(path in source.files for source in found.sources for path in paths)
        name = keyword_for_tag(tag)
        assert n_read >= 5, f"{name}: others were lost: {said}"
        assert all("\n" not in line for line in said), name
        if n_read == 5 and not said:
            pytest.fail(f"{name}: a slice was lost without a word")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", mostly_slow(WAYS, "rubbish"))
def test_an_attribute_of_a_frame(tmp_path: Path, way: str) -> None:
    frames = [
        {"position": [0.0, 0.0, 3.0 * z], "FrameContentSequence": {"DimensionIndexValues": [z, t]}}
        for t in range(2)
        for z in range(3)
    ]
    path = write_enhanced(tmp_path, np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4), frames)
    whole = path.read_bytes()
    for sequences, keywords in GROUPS.items():
        for keyword in (*sequences, *keywords):
            path.write_bytes(whole)
            header = pydicom.dcmread(path)
            frame = header.PerFrameFunctionalGroupsSequence[1]
            group = frame if keyword in sequences else item_at(frame, sequences)
            tag = Tag(keyword)
            value, vr = WAYS[way](dictionary_VR(tag))
            group.pop(tag, None)
            group[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
            with contextlib.suppress(Exception):  # some of these pydicom refuses to write
                header.save_as(path)
            read_all(tmp_path)


def item_at(dataset: Dataset, sequences: tuple[str, ...]) -> Dataset:
    for sequence in sequences:
        if sequence not in dataset:
            setattr(dataset, sequence, [Dataset()])
        dataset = dataset[sequence].value[0]
    return dataset
