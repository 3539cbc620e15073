"""DICOM SEG against dciodvfy, dcmqi, highdicom, pydicom and our own reader."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_judges import assert_read_back, assert_same_in_world, complaints, segments_by_dcmqi
from dicom_kinds import EACH_KIND, KINDS

from medseg.errors import LabelError, OutputError, SourceError
from medseg.io.dicom.series import find_series, read_dicom
from medseg.io.dicom_seg.check import check_dicom_seg
from medseg.io.dicom_seg.writer import write_dicom_seg
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.io.read import read_segmentation
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.terminology import Code

SegmentedBalls = Callable[..., LabelMapVolume]


def written(tmp_path: Path, segmented: LabelMapVolume) -> Path:
    (path,) = write_dicom_seg(tmp_path / "mask.dcm", segmented)
    return path


def frames_of(path: Path) -> list[tuple[int, np.ndarray, np.ndarray, pydicom.Dataset]]:
    """Segment number, RAS mm of the pixels, mask (row, column) and groups of each frame, by pydicom."""
    header = pydicom.dcmread(path)
    shared = header.SharedFunctionalGroupsSequence[0]
    orientation = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    row, column = np.indices((header.Rows, header.Columns))[..., None]
    in_plane = column * between_columns * orientation[0] + row * between_rows * orientation[1]
    pixels = header.pixel_array.reshape(-1, header.Rows, header.Columns)
    return [
        (
            groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            (np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float) + in_plane) * (-1, -1, 1),
            frame,
            groups,
        )
        for groups, frame in zip(header.PerFrameFunctionalGroupsSequence, pixels, strict=True)
    ]


@pytest.mark.parametrize("kind", EACH_KIND)
def test_masks_of_all_kinds_of_series(tmp_path: Path, segmented_balls: SegmentedBalls, kind: str) -> None:
    segmented = segmented_balls(tmp_path / "series", kind)
    path = written(tmp_path, segmented)
    assert complaints(path) == []
    for number, world, mask, groups in frames_of(path):
        nearest = np.rint(segmented.geometry.index(world) - 1e-6).astype(int)
        np.testing.assert_array_equal(mask, segmented.label_map[tuple(np.moveaxis(nearest, -1, 0))] == number)
        assert_refers_to_its_slice(groups, world[0, 0], segmented.source)
    if KINDS[kind].is_grid:
        assert_read_back(path, segmented)
        for number, (mask, place) in segments_by_dcmqi(path, tmp_path / "dcmqi").items():
            assert_same_in_world(mask, place, segmented.label_map == number, segmented.geometry)


def assert_refers_to_its_slice(groups: pydicom.Dataset, corner: np.ndarray, source: ImageSource) -> None:
    (reference,) = groups.DerivationImageSequence[0].SourceImageSequence
    headers = {str(header.SOPInstanceUID): header for header in map(pydicom.dcmread, set(source.files))}
    header = headers[reference.ReferencedSOPInstanceUID]
    assert reference.ReferencedSOPClassUID == header.SOPClassUID
    if "PerFrameFunctionalGroupsSequence" in header:
        header = header.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1].PlanePositionSequence[0]
    else:
        assert "ReferencedFrameNumber" not in reference
    np.testing.assert_allclose(corner * (-1, -1, 1), header.ImagePositionPatient, atol=1e-6)


TILTED = ["tilted by 20°", "tilted by -20°", "uneven", "missing slice", "enhanced tilted"]


@pytest.mark.parametrize("kind", ["oblique", "enhanced", *TILTED])
def test_on_the_grid_others_see_it_where_it_is(tmp_path: Path, segmented_balls: SegmentedBalls, kind: str) -> None:
    segmented = segmented_balls(tmp_path / "series", kind)
    path = write_mask(FORMATS["dicom-seg-grid"], tmp_path / "mask.dcm", segmented).path
    assert_read_back(path, segmented)
    for number, (mask, place) in segments_by_dcmqi(path, tmp_path / "dcmqi").items():
        assert_same_in_world(mask, place, segmented.label_map == number, segmented.geometry)


@pytest.mark.parametrize(("kind", "warned"), [("oblique", False), ("tilted by 20°", True), ("missing slice", True)])
def test_slices_that_others_place_wrong_are_told(
    tmp_path: Path, segmented_balls: SegmentedBalls, kind: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, segmented_balls(tmp_path / "series", kind))
    assert ("for these write dicom-seg-grid or rtstruct" in capsys.readouterr().err) is warned


def test_both_forms_are_objects_of_their_own(tmp_path: Path, segmented_balls: SegmentedBalls) -> None:
    segmented = segmented_balls(tmp_path / "series", "tilted by 20°")
    on_slices = pydicom.dcmread(written(tmp_path, segmented))
    (path,) = FORMATS["dicom-seg-grid"].write(tmp_path / "grid.dcm", segmented)
    on_grid = pydicom.dcmread(path)
    assert on_grid.SOPInstanceUID != on_slices.SOPInstanceUID
    assert on_grid.ReferencedSeriesSequence[0].SeriesInstanceUID == segmented.source.series_uid
    assert not any("DerivationImageSequence" in frame for frame in on_grid.PerFrameFunctionalGroupsSequence)


@pytest.mark.parametrize("kind", ["tilted by 20°", "tilted by -20°", "uneven", "missing slice", "enhanced tilted"])
def test_masks_on_slices_that_make_no_grid(tmp_path: Path, segmented_balls: SegmentedBalls, kind: str) -> None:
    """They are moved by less than half a voxel on the way to the slices, and by as much on the way back."""
    segmented = segmented_balls(tmp_path / "series", kind)
    found = read_segmentation(written(tmp_path, segmented), segmented.geometry, segmented.source)
    label_map = found.label_map({"liver": 1, "kidney_left": 2})
    for value in (1, 2):
        ours, theirs = segmented.label_map == value, label_map == value
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.93
        there, back = (segmented.geometry.world(np.argwhere(m)).mean(axis=0) for m in (ours, theirs))
        assert np.linalg.norm(there - back) < 0.45


def test_shapes_with_holes_and_many_parts(tmp_path: Path, organs: LabelMapVolume) -> None:
    path = written(tmp_path, organs)
    assert complaints(path) == []
    assert_read_back(path, organs)
    for number, (mask, place) in segments_by_dcmqi(path, tmp_path / "dcmqi").items():
        assert_same_in_world(mask, place, organs.label_map == number, organs.geometry)


def test_highdicom_reads_the_segments(tmp_path: Path, organs: LabelMapVolume) -> None:
    segmentation = highdicom.seg.segread(written(tmp_path, organs))
    volume = segmentation.get_volume(combine_segments=True)
    affine = np.diag([-1, -1, 1, 1]) @ volume.affine
    index = organs.geometry.index(np.argwhere(volume.array) @ affine[:3, :3].T + affine[:3, 3])
    np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
    found = np.zeros_like(organs.label_map)
    found[tuple(np.rint(index).astype(int).T)] = volume.array[volume.array > 0]
    np.testing.assert_array_equal(found, organs.label_map)
    liver, kidney = segmentation.SegmentSequence
    assert (liver.SegmentLabel, kidney.SegmentLabel) == ("liver", "kidney_left")
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    modifier = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeMeaning == "Left"
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    assert liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "medseg"


def test_colours_come_back(tmp_path: Path, balls: LabelMapVolume) -> None:
    labels = balls.labels.described({"liver": {"colour": (221, 130, 101)}, "kidney_left": {"colour": (0, 0, 255)}})
    found = read_segmentation(written(tmp_path, replace(balls, labels=labels)))
    colours = np.array([segment.colour for segment in found.segments])
    np.testing.assert_allclose(colours, [(221, 130, 101), (0, 0, 255)], atol=1)


def test_regions_overlap_their_labels(tmp_path: Path, organs: LabelMapVolume) -> None:
    labels = Labels.from_names({"liver": 1, "liver tumour": 2}, {"whole liver": (1, 2), "again": (2,)})
    segmented = replace(organs, labels=labels)
    path = written(tmp_path, segmented)
    assert_read_back(path, segmented)
    segments = segments_by_dcmqi(path, tmp_path / "dcmqi")
    for number, structure in enumerate(labels.structures, start=1):
        assert_same_in_world(*segments[number], segmented.mask(structure), segmented.geometry)


@pytest.mark.parametrize(
    "values", [(255, 7), (-3, 300), (2, 1), (40000, 70000)], ids=["stray", "negative", "turned round", "large"]
)
def test_label_values_are_not_segment_numbers(tmp_path: Path, organs: LabelMapVolume, values: tuple[int, int]) -> None:
    label_map = np.array([0, *values])[organs.label_map]
    labels = Labels.from_names({"liver": values[0], "spleen": values[1]})
    segmented = replace(organs, label_map=label_map, labels=labels)
    path = written(tmp_path, segmented)
    assert complaints(path) == []
    assert_read_back(path, segmented)


def test_a_value_without_a_label_is_an_error(tmp_path: Path, balls: LabelMapVolume) -> None:
    with pytest.raises(LabelError, match=r"\[2\]"):
        written(tmp_path, replace(balls, labels=Labels.from_names({"liver": 1})))
    assert not list(tmp_path.glob("mask*"))


@pytest.mark.parametrize("present", [(), (2,)])
def test_structures_that_are_nowhere_keep_their_segment(
    tmp_path: Path, balls: LabelMapVolume, present: tuple[int, ...]
) -> None:
    label_map = np.where(np.isin(balls.label_map, present), balls.label_map, 0)
    segmented = replace(balls, label_map=label_map)
    path = written(tmp_path, segmented)
    assert complaints(path) == []
    assert_read_back(path, segmented)


def test_names_and_codes_of_any_kind(tmp_path: Path, organs: LabelMapVolume) -> None:
    names = ["Hirnödem (T2) \\ 50 %", "髄膜腫 " + "very long " * 9]
    labels = Labels.from_names(dict(zip(names, (1, 2), strict=True)))
    labels = labels.described({names[0]: {"type": Code(scheme="SCT", value="79654002", meaning="Oedema " * 12)}})
    path = written(tmp_path, replace(organs, labels=labels, algorithm="Modell für Hirnödeme\n" + "x" * 90))
    # dciodvfy counts bytes, DICOM characters (PS3.5, 6.2), and a private scheme (99…) is none that it knows.
    others = ("99MEDSEG", "expected <= 64", "invalid data values for Value Representations")
    assert not [line for line in complaints(path) if not any(words in line for words in others)]
    found = [segment.name for segment in read_segmentation(path).segments]
    assert found == [name.strip() for name in names]


def test_the_same_mask_gets_the_same_uids(tmp_path: Path, balls: LabelMapVolume, organs: LabelMapVolume) -> None:
    def uids(segmented: LabelMapVolume) -> tuple[str, str]:
        header = pydicom.dcmread(written(tmp_path, segmented))
        return header.SOPInstanceUID, header.SeriesInstanceUID

    assert uids(balls) == uids(balls)
    assert not set(uids(balls)) & set(uids(organs))
    assert not set(uids(balls)) & set(uids(replace(balls, algorithm="another")))


def test_the_mask_belongs_to_patient_and_study(tmp_path: Path, balls: LabelMapVolume) -> None:
    header = pydicom.dcmread(written(tmp_path, balls))
    source = pydicom.dcmread(balls.source.files[0])
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "StudyID", "FrameOfReferenceUID"):
        assert header[keyword].value == source[keyword].value
    assert header.SeriesInstanceUID != source.SeriesInstanceUID
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert header.ContentCreatorName == ""  # type 2


ODD_HEADERS: dict[str, dict[str, Any]] = {
    "umlauts": {"PatientName": "Müller^Jürgen^^Dr.", "SpecificCharacterSet": "ISO_IR 100"},
    "Japanese": {
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    },
    "several names": {"PatientName": ["Doe^Jane", "Roe^Jane"]},
    "one UID for all": {"SOPInstanceUID": "1.2.3"},
    "no patient": dict.fromkeys(("PatientID", "PatientName", "PatientBirthDate", "PatientSex")),
    "no study": dict.fromkeys(("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName")),
    "empty": dict.fromkeys(("PatientID", "PatientName", "StudyID", "StudyDate", "PatientSex", "SeriesNumber"), ""),
    "odd values": {
        "PatientID": "X" * 70,
        "PatientSex": "female",
        "PatientAge": "63",
        "StudyID": "longer than sixteen characters",
        "StudyDate": "2024-02-29",
        "PatientBirthDate": "unknown",
        "PatientWeight": "",
    },
    "old dates": {"StudyDate": "2024.02.29", "StudyTime": "12:00:00"},
    "no series number": {"SeriesNumber": None, "SeriesDescription": None},
    "largest series number": {"SeriesNumber": 2**31 - 1},
    "no frame of reference": {"FrameOfReferenceUID": None, "PositionReferenceIndicator": None},
    "odd UIDs": {"StudyInstanceUID": "1.2.03.anonymous", "FrameOfReferenceUID": "1.2.840.007"},
    "no thickness": {"SliceThickness": None},
    "empty thickness": {"SliceThickness": ""},
    "lossy": {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "12.5",
        "LossyImageCompressionMethod": "ISO_10918_1",
    },
    "trial": {"ClinicalTrialSponsorName": "Sponsor", "ClinicalTrialProtocolID": "P", "ClinicalTrialSubjectID": "7"},
}
# What dciodvfy says of the source too, since the mask repeats it; and its summary of that.
OF_THE_SOURCE = ("Patient ID", "Study Instance UID", "Frame of Reference UID", "DICOMDIR", "for Value Representations")


@pytest.mark.parametrize("name", ODD_HEADERS)
def test_odd_headers(tmp_path: Path, segmented_balls: SegmentedBalls, name: str) -> None:
    segmented = segmented_balls(tmp_path / "series", **ODD_HEADERS[name])
    path = written(tmp_path, segmented)
    assert [line for line in complaints(path) if not any(words in line for words in OF_THE_SOURCE)] == []
    assert_read_back(path, segmented)
    ours, theirs = (pydicom.dcmread(each).get("PatientName") or "" for each in (path, segmented.source.files[0]))
    assert ours == ("" if name == "several names" else theirs)


def test_numbers_that_are_none(tmp_path: Path, segmented_balls: SegmentedBalls) -> None:
    segmented = segmented_balls(tmp_path / "series", PatientWeight="70.5", SeriesNumber="1234")
    for file in segmented.source.files:
        content = file.read_bytes()
        for number, odd in (b"DS\4\00070.5", b"DS\4\00070,5"), (b"IS\4\0001234", b"IS\4\00012,4"):
            content = content.replace(number, odd)  # with its type and length before it: UIDs hold any digits
        file.write_bytes(content)
    path = written(tmp_path, segmented)
    assert complaints(path) == []
    assert "PatientWeight" not in pydicom.dcmread(path)


def test_slices_without_uids_are_refused(tmp_path: Path, segmented_balls: SegmentedBalls) -> None:
    segmented = segmented_balls(tmp_path / "series")
    header = pydicom.dcmread(segmented.source.files[3])
    del header.SOPInstanceUID
    header.save_as(segmented.source.files[3], enforce_file_format=False)
    with pytest.raises(SourceError, match=r"has no SOPInstanceUID.*choose nifti or seg-nrrd"):
        written(tmp_path, segmented)


def test_a_source_that_is_gone(tmp_path: Path, balls: LabelMapVolume) -> None:
    balls.source.files[3].unlink()
    with pytest.raises(SourceError, match="there is no such file"):
        written(tmp_path, balls)
    assert not list(tmp_path.glob("*mask*"))


@pytest.mark.parametrize("source", [None, ImageSource("nifti", Path("a.nii.gz"), (Path("a.nii.gz"),))])
def test_other_sources_are_refused(tmp_path: Path, balls: LabelMapVolume, source: ImageSource | None) -> None:
    with pytest.raises(OutputError, match=r"there is no label"):
        written(tmp_path, replace(balls, labels=Labels.from_values([])))
    with pytest.raises(OutputError, match=r"mask\.dcm: DICOM masks lie on the slices of a DICOM series.*--like"):
        written(tmp_path, replace(balls, source=source))


def test_one_slice(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    write_slices(tmp_path / "series", np.zeros((1, 9, 11), np.int16), FrameOfReferenceUID="1.2.3")
    (source,) = find_series(tmp_path / "series").sources
    geometry = read_dicom(source).geometry
    label_map = np.zeros(geometry.shape, np.uint8)
    label_map[2:5, 1:4] = 1
    segmented = LabelMapVolume(label_map, geometry, Labels.from_names({"liver": 1}), source)
    path = written(tmp_path, segmented)
    assert check_dicom_seg(path, segmented).passed
    assert_read_back(path, segmented)
    assert_same_in_world(*segments_by_dcmqi(path, tmp_path / "dcmqi")[1], label_map, geometry)


@pytest.mark.parametrize(
    "folder",
    [
        "dicom_studies/hippocampus_study/13_HCropVolume",
        "dicom_reference/transfer_syntaxes/In",  # Siemens mosaics
        "dicom_reference/ge_siemens_4d/In/20180918GE/mr_0004",
        "sarcoma/dicom/STS_001/PET/image",
    ],
)
def test_real_series(real_data: Path, tmp_path: Path, folder: str) -> None:
    source = find_series(real_data / folder).sources[0]
    geometry = read_dicom(source).geometry
    label_map = np.zeros(geometry.shape, np.uint8)
    x, y, z = (n // 3 for n in geometry.shape)
    label_map[x : 2 * x, y : y + 5, 1 : z + 2] = 1
    label_map[2 : x - 1, 2:9, 2:4] = 2
    segmented = LabelMapVolume(label_map, geometry, Labels.from_names({"liver": 1, "spleen": 2}), source)
    path = written(tmp_path, segmented)
    assert not [line for line in complaints(path) if line.startswith("Error")]
    assert_read_back(path, segmented)
    for number, (mask, place) in segments_by_dcmqi(path, tmp_path / "dcmqi").items():
        assert_same_in_world(mask, place, label_map == number, geometry)
