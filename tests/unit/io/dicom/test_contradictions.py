"""Headers that say two things, or ask for more than is there: an error that says so, never a guess, never a crash."""

import contextlib
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_drawn import AXIAL, dataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    MediaStorageDirectoryStorage,
    MRSpectroscopyStorage,
    RawDataStorage,
    RLELossless,
    UltrasoundImageStorage,
    generate_uid,
)

from medseg.errors import MedsegError, SourceError
from medseg.io.dicom.series import dicom_geometry, find_series, read_dicom
from medseg.io.source import ImageSource

WriteSlices = Callable[..., list[Path]]


def noise(n: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (n, 5, 6)).astype(np.int16)


def change(path: Path, **tags: Any) -> None:
    """Sets tags of a file; None deletes one."""
    header = pydicom.dcmread(path)
    for name, value in tags.items():
        header.pop(name, None)
        if value is not None:
            setattr(header, name, value)
    header.save_as(path)


def the_series(folder: Path) -> ImageSource:
    found = find_series(folder)
    assert found.problems == ()
    (source,) = found.sources
    return source


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"HighBit": 11}, "HighBit is 11, which BitsStored 16 makes 15"),
        ({"BitsStored": 12}, "HighBit is 15, which BitsStored 12 makes 11"),
        ({"BitsStored": 20, "HighBit": 19}, "BitsStored is 20, and BitsAllocated 16"),
        ({"BitsStored": None}, "has no BitsStored"),
        ({"BitsAllocated": 12}, "BitsAllocated is 12"),
        ({"PixelRepresentation": None}, "has no PixelRepresentation"),
        ({"PhotometricInterpretation": ""}, "has no PhotometricInterpretation"),
        ({"PixelRepresentation": 2}, "PixelRepresentation is 2 instead of 0 or 1"),
        ({"Rows": 60000, "Columns": 60000}, "60 bytes instead of 7200000000"),
        ({"Rows": 2}, "NumberOfFrames is 1, and there are pixels for 2 frames"),
    ],
)
def test_pixels_that_could_be_read_in_two_ways(
    tmp_path: Path, write_slices: WriteSlices, tags: dict[str, Any], words: str
) -> None:
    for path in write_slices(tmp_path, noise()):
        change(path, **tags)
    source = the_series(tmp_path)
    for read in (dicom_geometry, read_dicom):  # inspect asks for the one, preprocess for the other
        with pytest.raises(SourceError, match=words):
            read(source)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"RescaleSlope": 0}, "RescaleSlope is 0"),
        ({"RescaleIntercept": "1e308"}, "beyond those of 32-bit floats"),
        ({"RescaleIntercept": "2147483648"}, "whole numbers of more than 32 bits"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "make no plane"),
        ({"ImagePositionPatient": [1e30, 0, 0]}, "make no plane"),
        ({"NumberOfFrames": 3}, "3 frames without functional groups"),
    ],
)
def test_headers_that_cannot_be_true(
    tmp_path: Path, write_slices: WriteSlices, tags: dict[str, Any], words: str
) -> None:
    change(write_slices(tmp_path, noise(1))[0], **tags)
    found = find_series(tmp_path)
    assert found.sources == ()
    assert words in found.problems[0].message


def test_a_lost_sop_class_costs_no_geometry(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise())
    expected = read_dicom(the_series(tmp_path))
    for path in paths:
        header = pydicom.dcmread(path)
        del header.SOPClassUID, header.file_meta.MediaStorageSOPClassUID
        header.save_as(path, enforce_file_format=False)
    source = the_series(tmp_path)
    volume = read_dicom(source)
    assert "4 files have no SOPClassUID: they are read as CT" in source.notes
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.geometry.difference(expected.geometry, 0.0) is None


@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"SOPClassUID": MRSpectroscopyStorage}, "MR Spectroscopy (no image)"),
        ({"SOPClassUID": RawDataStorage}, "Raw Data (no image)"),
        ({"SOPClassUID": EncapsulatedPDFStorage, "Rows": None, "PixelData": None}, "Encapsulated PDF (no image)"),
        ({"SOPClassUID": MediaStorageDirectoryStorage}, "a directory of files (DICOMDIR)"),
        ({"SOPClassUID": "1.3.12.2.1107.5.9.1", "PixelData": None}, "Siemens' raw data"),
        ({"SOPClassUID": "1.3.46.670589.11.0.0.12.2", "PixelData": None}, "private data of Philips"),
        ({"SOPClassUID": "1.2.3.4.5", "PixelData": None}, "CT of the private class 1.2.3.4.5, without an image"),
        (
            {"SOPClassUID": f"1.2.3.{'4' * 900}", "PixelData": None},  # damaged; messages stay short
            f"CT of the private class 1.2.3.{'4' * 900}"[:200] + "…",
        ),
        (
            {"SOPClassUID": UltrasoundImageStorage, "ImagePositionPatient": None},
            "Ultrasound Image without a place in the patient",
        ),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a colour image (CT)"),
    ],
)
def test_what_is_no_image_is_told_as_what_it_is(
    tmp_path: Path, write_slices: WriteSlices, tags: dict[str, Any], words: str
) -> None:
    write_slices(tmp_path, noise(), names=["a", "b", "c", "d"])
    change(write_slices(tmp_path, noise(1), names=["e"])[0], **tags)
    found = find_series(tmp_path)
    assert (len(found.sources), found.problems) == (1, ())
    assert found.notes == (f"left out, {words}: {tmp_path / 'e'}",)


def test_compressed_pixels_that_cannot_be_as_many(tmp_path: Path, write_slices: WriteSlices) -> None:
    (path,) = write_slices(tmp_path, noise(1))
    header = pydicom.dcmread(path)
    header.compress(RLELossless, generate_instance_uid=False)
    header.Rows = header.Columns = 65535
    header.save_as(path)
    with pytest.raises(SourceError, match=r"bytes cannot hold the 8\.59 GB"):
        read_dicom(the_series(tmp_path))


@pytest.mark.parametrize("depth", [200, 5000, 100_000])
def test_sequences_in_sequences(tmp_path: Path, write_slices: WriteSlices, depth: int) -> None:
    paths = write_slices(tmp_path, noise())
    header = pydicom.dcmread(paths[1])
    pixels = header.PixelData
    del header.PixelData
    stream = BytesIO()
    header.save_as(stream)
    opened = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    end = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(pixels)) + pixels
    paths[1].write_bytes(stream.getvalue() + opened * depth + closed * depth + end)
    found = find_series(tmp_path)
    assert sum(len(source.files) for source in found.sources) + len(found.problems) == 4
    for source in found.sources:
        with contextlib.suppress(MedsegError):  # a quarter of the slices is missing
            read_dicom(source)


class TestIdentity:
    """Slices of one SeriesInstanceUID with other owners."""

    def test_a_patient_for_each_slice(self, tmp_path: Path, write_slices: WriteSlices) -> None:
        write_slices(tmp_path, noise(), PatientID=["a", "b", "c", "d"], StudyInstanceUID=["1.1", "1.2", "1.3", "1.4"])
        source = the_series(tmp_path)
        assert len(source.files) == 4
        assert "PatientID and StudyInstanceUID changes within the series (4 values)" in source.notes[0]

    def test_two_studies_of_a_patient_that_go_on(self, tmp_path: Path, write_slices: WriteSlices) -> None:
        write_slices(tmp_path, noise(), StudyInstanceUID=["1.1", "1.1", "1.2", "1.2"])
        assert len(the_series(tmp_path).files) == 4

    def test_two_patients_that_would_go_on(self, tmp_path: Path, write_slices: WriteSlices) -> None:
        write_slices(tmp_path, noise(), PatientID=["a", "a", "b", "b"])
        assert [len(source.files) for source in find_series(tmp_path).sources] == [2, 2]

    def test_two_studies_of_one_place(self, tmp_path: Path, write_slices: WriteSlices) -> None:
        uid = generate_uid()
        for study in ("1.1", "1.2"):
            write_slices(tmp_path / study, noise(), uids=("P1", study, uid))
        assert [len(source.files) for source in find_series(tmp_path).sources] == [4, 4]

    def test_a_uid_for_all_slices_is_no_copy(self, tmp_path: Path, write_slices: WriteSlices) -> None:
        positions = [[0, 0, 3.0 * z] for z in (0, 1, 0, 1)]
        write_slices(
            tmp_path, noise(), orientation=AXIAL, SOPInstanceUID="1.2.3", ImagePositionPatient=positions,
            InstanceNumber=[1, 2, 3, 4],
        )  # fmt: skip
        sources = find_series(tmp_path).sources
        assert [source.part for source in sources] == ["volume-1", "volume-2"]
        assert "4 slices share a SOPInstanceUID" in sources[0].notes[0]
        np.testing.assert_array_equal(read_dicom(sources[1]).array[0].T, noise()[2:])


def test_a_frame_with_two_transformations_of_values_is_refused(tmp_path: Path) -> None:
    from dicom_drawn import write_enhanced

    path = write_enhanced(tmp_path, noise(3), [{"position": [0.0, 0.0, 3.0 * z]} for z in range(3)])
    header = pydicom.dcmread(path)
    scale = dataset(RescaleSlope=1, RescaleIntercept=-1024)
    for groups in (header.SharedFunctionalGroupsSequence[0], header.PerFrameFunctionalGroupsSequence[1]):
        groups.PixelValueTransformationSequence = [scale, scale]
        header.save_as(path)
        found = find_series(tmp_path)
        assert found.sources == ()
        assert "several items in its PixelValueTransformationSequence" in found.problems[0].message
        del groups.PixelValueTransformationSequence


def test_private_groups_never_override(tmp_path: Path) -> None:
    from dicom_drawn import write_enhanced

    frames = [{"position": [0.0, 0.0, 3.0 * z]} for z in range(3)]
    path = write_enhanced(tmp_path, noise(3), frames)
    header = pydicom.dcmread(path)
    for frame in header.PerFrameFunctionalGroupsSequence:
        block = frame.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
        wrong = dataset(ImagePositionPatient=[9, 9, 9], PixelSpacing=[7, 7], RescaleSlope=5, EchoTime=8)
        block.add_new(0x0F, "SQ", [wrong])
    header.save_as(path)
    volume = read_dicom(the_series(tmp_path))
    np.testing.assert_array_equal(volume.array[0].T, noise(3))
    np.testing.assert_allclose(volume.geometry.affine, [[-0.8, 0, 0, 0], [0, -1.2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
