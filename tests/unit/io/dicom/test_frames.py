"""Enhanced multi-frame objects, mosaics, and series that hold several volumes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_drawn import AXIAL, write_enhanced
from pydicom import Dataset
from pydicom.uid import generate_uid

from medseg.errors import SourceError
from medseg.io.dicom.series import dicom_geometry, find_series, read_dicom, source_planes

WriteSlices = Callable[..., list[Path]]


def noise(n: int, rows: int = 5, columns: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (n, rows, columns)).astype(np.int16)


def at(z: float) -> list[float]:
    return [-20.0, 13.0, 7.0 + z]


def test_an_enhanced_object_equals_the_classic_series(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path / "classic", noise(7), RescaleIntercept=-1024, RescaleSlope=2)
    complete(paths)
    datasets = [pydicom.dcmread(path) for path in paths]
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=datasets[::-1],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    (tmp_path / "enhanced").mkdir()
    converted.save_as(tmp_path / "enhanced" / "1.dcm")
    (classic,) = find_series(tmp_path / "classic").sources
    (enhanced,) = find_series(tmp_path / "enhanced").sources
    assert len(enhanced.files) == len(enhanced.frames) == 7
    np.testing.assert_array_equal(read_dicom(enhanced).array, read_dicom(classic).array)
    assert dicom_geometry(enhanced).difference(dicom_geometry(classic), 1e-9) is None
    assert [plane.frame for plane in source_planes(enhanced)] == list(enhanced.frames)


def complete(paths: list[Path]) -> None:
    """Adds what highdicom asks of a CT series."""
    frame_of_reference = generate_uid()
    for path in paths:
        header = pydicom.dcmread(path)
        header.PatientName = header.PatientBirthDate = header.PatientSex = header.StudyID = ""
        header.StudyDate = header.StudyTime = header.AccessionNumber = header.Manufacturer = ""
        header.ReferringPhysicianName = header.PatientPosition = header.PositionReferenceIndicator = ""
        header.FrameOfReferenceUID, header.SeriesNumber = frame_of_reference, 1
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.save_as(path)


def test_real_enhanced_objects_equal_their_classic_series(real_data: Path) -> None:
    for name in ("23x38x3", "24x38x3"):
        folder = real_data / "dicom_seg" / "segmentations" / name
        (classic,) = find_series(folder / "image").sources
        (enhanced,) = find_series(folder / "multiframe").sources
        np.testing.assert_array_equal(read_dicom(enhanced).array, read_dicom(classic).array)
        assert dicom_geometry(enhanced).difference(dicom_geometry(classic), 1e-6) is None


def test_frames_in_any_order(tmp_path: Path) -> None:
    stored = noise(5)
    order = [3, 0, 4, 1, 2]
    write_enhanced(tmp_path, stored, [{"position": at(3.0 * i)} for i in order])
    (source,) = find_series(tmp_path).sources
    volume = read_dicom(source)
    np.testing.assert_array_equal(volume.array[0].T, stored[np.argsort(order)])
    np.testing.assert_allclose(volume.geometry.world((0, 0, 0)), (20, -13, 7))
    assert volume.geometry.spacing == pytest.approx((0.8, 1.2, 3))


def test_each_frame_has_its_own_slope(tmp_path: Path) -> None:
    frames = [
        {
            "position": at(3.0 * i),
            "PixelValueTransformationSequence": {"RescaleSlope": i + 1, "RescaleIntercept": -i, "RescaleType": "US"},
        }
        for i in range(3)
    ]
    write_enhanced(tmp_path, noise(3), frames)
    (source,) = find_series(tmp_path).sources
    expected = [noise(3)[i].astype(int) * (i + 1) - i for i in range(3)]
    np.testing.assert_array_equal(read_dicom(source).array[0].T, expected)


def test_b_values_of_an_enhanced_object(tmp_path: Path) -> None:
    frames = [
        {"position": at(3.0 * z), "MRDiffusionSequence": {"DiffusionBValue": b}} for z in range(4) for b in (1000, 0)
    ]
    write_enhanced(tmp_path, noise(8), frames)
    sources = find_series(tmp_path).sources
    assert [source.part for source in sources] == ["b-0", "b-1000"]
    np.testing.assert_array_equal(read_dicom(sources[0]).array[0].T, noise(8)[1::2])
    np.testing.assert_array_equal(read_dicom(sources[1]).array[0].T, noise(8)[::2])


def test_only_the_dimension_index_tells_the_times_apart(tmp_path: Path) -> None:
    pointers = [Dataset(), Dataset()]
    pointers[0].DimensionIndexPointer = pydicom.tag.Tag("TemporalPositionIndex")
    pointers[1].DimensionIndexPointer = pydicom.tag.Tag("InStackPositionNumber")
    frames = [
        {"position": at(3.0 * z), "FrameContentSequence": {"DimensionIndexValues": [t, z + 1]}}
        for t in (1, 2, 3)
        for z in range(4)
    ]
    write_enhanced(tmp_path, noise(12), frames, DimensionIndexSequence=pointers)
    sources = find_series(tmp_path).sources
    assert [source.part for source in sources] == ["time-1", "time-2", "time-3"]
    for i, source in enumerate(sources):
        np.testing.assert_array_equal(read_dicom(source).array[0].T, noise(12)[4 * i : 4 * i + 4])


def test_frames_without_positions_are_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path, noise(3), [{"position": at(i)} for i in range(3)])
    header = pydicom.dcmread(path)
    del header.PerFrameFunctionalGroupsSequence
    header.save_as(path)
    sources, problems, *_ = find_series(tmp_path)
    assert not sources
    assert "3 frames without functional groups (Enhanced MR Image Storage)" in problems[0].message


def test_an_enhanced_object_with_frames_missing_from_its_pixels(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path, noise(3), [{"position": at(i)} for i in range(3)])
    header = pydicom.dcmread(path)
    header.PixelData = header.PixelData[:-60]
    header.save_as(path)
    (source,) = find_series(tmp_path).sources
    with pytest.raises(SourceError, match=r"enhanced\.dcm: pixel data are missing, truncated or damaged"):
        read_dicom(source)


def test_a_mosaic_without_private_tags_is_refused(real_data: Path, tmp_path: Path) -> None:
    header = pydicom.dcmread(real_data / "dicom_reference" / "transfer_syntaxes" / "In" / "1.dcm")
    header.remove_private_tags()
    header.save_as(tmp_path / "1.dcm")
    sources, problems, *_ = find_series(tmp_path)
    assert not sources
    assert "mosaic" in problems[0].message and "without removing private tags" in problems[0].message


@pytest.mark.parametrize(
    ("tags", "parts"),
    [
        ({"EchoNumbers": [1, 1, 1, 2, 2, 2]}, ["echo-1", "echo-2"]),
        ({"EchoTime": [30.5] * 3 + [10.0] * 3}, ["echo-10", "echo-30.5"]),
        ({"DiffusionBValue": [0.0, 0.0, 0.0, 800.0, 800.0, 800.0]}, ["b-0", "b-800"]),
        ({"ImageType": [["ORIGINAL", "PRIMARY", v] for v in "MMMPPP"]}, ["type-M", "type-P"]),
        ({"TemporalPositionIdentifier": [2, 2, 2, 1, 1, 1]}, ["time-1", "time-2"]),
        ({"TriggerTime": [20.0, 20.0, 20.0, 550.0, 550.0, 550.0]}, ["trigger-1", "trigger-2"]),
        ({"AcquisitionNumber": [4, 4, 4, 9, 9, 9]}, ["time-1", "time-2"]),
        # Differs from slice to slice, and tells no volumes.
        ({"AcquisitionTime": ["101010", "101020", "101030", "101040", "101050", "101060"]}, ["volume-1", "volume-2"]),
        ({}, ["volume-1", "volume-2"]),
        ({"NumberOfTemporalPositions": 2}, ["time-1", "time-2"]),
    ],
)
def test_volumes_are_named_after_what_differs(
    tmp_path: Path, write_slices: WriteSlices, tags: dict[str, Any], parts: list[str]
) -> None:
    stored = noise(6)
    positions = [at(3.0 * i) for i in (0, 1, 2, 0, 1, 2)]
    tags = {"InstanceNumber": [1, 2, 3, 4, 5, 6], **tags}
    write_slices(tmp_path, stored, orientation=AXIAL, ImagePositionPatient=positions, **tags)
    sources = find_series(tmp_path).sources
    assert [source.part for source in sources] == parts
    first = 3 if parts == ["echo-10", "echo-30.5"] or tags.get("TemporalPositionIdentifier") else 0
    np.testing.assert_array_equal(read_dicom(sources[0]).array[0].T, stored[first : first + 3])
    np.testing.assert_array_equal(read_dicom(sources[1]).array[0].T, stored[3 - first : 6 - first])


def test_volumes_that_differ_in_two_attributes(tmp_path: Path, write_slices: WriteSlices) -> None:
    echoes = [1, 2] * 4
    times = [1, 1, 2, 2] * 2
    positions = [at(0.0)] * 4 + [at(3.0)] * 4
    tags = {"EchoNumbers": echoes, "TemporalPositionIdentifier": times, "ImagePositionPatient": positions}
    write_slices(tmp_path, noise(8), orientation=AXIAL, **tags)
    sources = find_series(tmp_path).sources
    assert [source.part for source in sources] == ["echo-1_time-1", "echo-1_time-2", "echo-2_time-1", "echo-2_time-2"]
    np.testing.assert_array_equal(read_dicom(sources[1]).array[0].T, noise(8)[[2, 6]])


def test_a_scan_that_was_stopped_in_its_last_volume(tmp_path: Path, write_slices: WriteSlices) -> None:
    times = [1, 1, 1, 2, 2, 2, 3]
    positions = [at(3.0 * i) for i in (0, 1, 2, 0, 1, 2, 0)]
    write_slices(
        tmp_path, noise(7), orientation=AXIAL, ImagePositionPatient=positions, TemporalPositionIdentifier=times
    )
    assert [(source.part, len(source.files)) for source in find_series(tmp_path).sources] == [
        ("time-1", 3),
        ("time-2", 3),
        ("time-3", 1),
    ]
