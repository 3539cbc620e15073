"""RTSTRUCT against dciodvfy, pydicom with another rasteriser, and our own reader."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_judges import assert_read_back, complaints
from dicom_kinds import EACH_KIND, KINDS
from skimage.draw import polygon2mask

from medseg.errors import LabelError, OutputError
from medseg.io.dicom.series import find_series, read_dicom
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.read import read_segmentation
from medseg.io.rtstruct.writer import write_rtstruct
from medseg.labels import Labels

SegmentedBalls = Callable[..., LabelMapVolume]


def written(tmp_path: Path, segmented: LabelMapVolume) -> Path:
    (path,) = write_rtstruct(tmp_path / "mask.dcm", segmented)
    return path


def slices_of(segmented: LabelMapVolume) -> dict[str, pydicom.Dataset]:
    headers = map(pydicom.dcmread, set(segmented.source.files))
    return {str(header.SOPInstanceUID): header for header in headers}


def rasterised(path: Path, segmented: LabelMapVolume, united: bool) -> dict[tuple[str, str], np.ndarray]:
    """Mask (row, column) of each ROI name and SOP instance of a classic series, by scikit-image.

    Some readers unite what several contours enclose, others take what an odd number of them does.
    """
    structure_set, slices = pydicom.dcmread(path), slices_of(segmented)
    names = {roi.ROINumber: roi.ROIName for roi in structure_set.StructureSetROISequence}
    masks: dict[tuple[str, str], np.ndarray] = {}
    for roi in structure_set.ROIContourSequence:
        for contour in roi.get("ContourSequence", ()):
            (reference,) = contour.ContourImageSequence
            slice_ = slices[reference.ReferencedSOPInstanceUID]
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            assert len(points) == contour.NumberOfContourPoints
            row_column = in_pixels(points, slice_)
            picture = polygon2mask((slice_.Rows, slice_.Columns), row_column)
            key = names[roi.ReferencedROINumber], reference.ReferencedSOPInstanceUID
            before = masks.get(key, np.zeros_like(picture))
            masks[key] = before | picture if united else before ^ picture
    return masks


def in_pixels(points: np.ndarray, slice_: pydicom.Dataset) -> np.ndarray:
    """Rows and columns of LPS mm, all of which have to lie in the plane of the slice."""
    along_row, down_column = np.reshape(slice_.ImageOrientationPatient, (2, 3)).astype(float)
    offset = points - np.array(slice_.ImagePositionPatient, dtype=float)
    assert np.abs(offset @ np.cross(along_row, down_column)).max() < 1e-4
    between_rows, between_columns = slice_.PixelSpacing
    return np.stack([offset @ down_column / between_rows, offset @ along_row / between_columns], axis=1)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_masks_of_all_kinds_of_series(tmp_path: Path, segmented_balls: SegmentedBalls, kind: str) -> None:
    segmented = segmented_balls(tmp_path / "series", kind)
    path = written(tmp_path, segmented)
    assert complaints(path) == []
    if KINDS[kind].is_grid:
        assert_read_back(path, segmented)
    if not KINDS[kind].enhanced:
        assert_rasterised(path, segmented, united=True)


def assert_rasterised(path: Path, segmented: LabelMapVolume, united: bool) -> None:
    """Each pixel of each slice, by the voxel of the label map that it lies in."""
    masks = rasterised(path, segmented, united)
    for uid, slice_ in slices_of(segmented).items():
        along_row, down_column = np.reshape(slice_.ImageOrientationPatient, (2, 3)).astype(float)
        row, column = np.indices((slice_.Rows, slice_.Columns))[..., None]
        between_rows, between_columns = slice_.PixelSpacing
        lps = slice_.ImagePositionPatient + column * between_columns * along_row + row * between_rows * down_column
        nearest = np.rint(segmented.geometry.index(lps * (-1, -1, 1)) - 1e-6).astype(int)
        for structure in segmented.labels.structures:
            expected = segmented.mask(structure)[tuple(np.moveaxis(nearest, -1, 0))]
            found = masks.get((structure.name, uid), np.zeros_like(expected))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["enhanced", "enhanced oblique", "enhanced tilted"])
def test_contours_name_the_frame_that_they_lie_on(tmp_path: Path, segmented_balls: SegmentedBalls, kind: str) -> None:
    segmented = segmented_balls(tmp_path / "series", kind)
    structure_set = pydicom.dcmread(written(tmp_path, segmented))
    (image,) = slices_of(segmented).values()
    place = pydicom.Dataset(image.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0])
    place.PixelSpacing = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    for roi in structure_set.ROIContourSequence:
        for contour in roi.ContourSequence:
            (reference,) = contour.ContourImageSequence
            frame = image.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1]
            place.ImagePositionPatient = frame.PlanePositionSequence[0].ImagePositionPatient
            in_pixels(np.reshape(contour.ContourData, (-1, 3)).astype(float), place)


@pytest.mark.parametrize("united", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_shapes_with_holes_and_many_parts(tmp_path: Path, organs: LabelMapVolume, united: bool) -> None:
    path = written(tmp_path, organs)
    assert complaints(path) == []
    assert_read_back(path, organs)
    assert_rasterised(path, organs, united)


@pytest.mark.slow
def test_noise(tmp_path: Path, balls: LabelMapVolume) -> None:
    """Every way in which pixels can touch."""
    label_map = np.random.default_rng(0).integers(0, 3, balls.geometry.shape).astype(np.uint8)
    segmented = replace(balls, label_map=label_map)
    path = written(tmp_path, segmented)
    assert_read_back(path, segmented)
    assert_rasterised(path, segmented, united=True)


def test_regions_overlap_their_labels(tmp_path: Path, organs: LabelMapVolume) -> None:
    labels = Labels.from_names({"liver": -3, "liver tumour": 300}, {"whole liver": (-3, 300)})
    segmented = replace(organs, label_map=np.array([0, -3, 300])[organs.label_map], labels=labels)
    assert_read_back(written(tmp_path, segmented), segmented)


def test_a_value_without_a_label_is_an_error(tmp_path: Path, balls: LabelMapVolume) -> None:
    with pytest.raises(LabelError, match=r"\[2\]"):
        written(tmp_path, replace(balls, labels=Labels.from_names({"liver": 1})))
    assert not list(tmp_path.glob("mask*"))


@pytest.mark.parametrize("present", [(), (2,)])
def test_structures_that_are_nowhere_keep_their_roi(
    tmp_path: Path, balls: LabelMapVolume, present: tuple[int, ...]
) -> None:
    label_map = np.where(np.isin(balls.label_map, present), balls.label_map, 0)
    segmented = replace(balls, label_map=label_map)
    path = written(tmp_path, segmented)
    assert complaints(path) == []
    assert_read_back(path, segmented)


def test_names_colours_and_codes(tmp_path: Path, balls: LabelMapVolume) -> None:
    labels = Labels.from_names({"Leber": 1, "kidney_left": 2, "Hirnödem \\ 髄膜腫": 3})
    labels = labels.described({"Leber": {"colour": (221, 130, 101)}})
    path = written(tmp_path, replace(balls, labels=labels))
    assert [line for line in complaints(path) if "99MEDSEG" not in line] == []
    other, kidney, oedema = read_segmentation(path, balls.geometry).segments
    assert (other.name, kidney.name, oedema.name) == ("Leber", "kidney_left", "Hirnödem \\ 髄膜腫")
    assert other.colour == (221, 130, 101)
    assert kidney.type is not None and kidney.type.meaning == "Kidney"
    assert kidney.modifier is not None and kidney.modifier.meaning == "Left"


def test_the_same_mask_gets_the_same_uids(tmp_path: Path, balls: LabelMapVolume, organs: LabelMapVolume) -> None:
    def uids(segmented: LabelMapVolume) -> tuple[str, str]:
        header = pydicom.dcmread(written(tmp_path, segmented))
        return header.SOPInstanceUID, header.SeriesInstanceUID

    assert uids(balls) == uids(balls)
    assert not set(uids(balls)) & set(uids(organs))


def test_the_structure_set_refers_to_its_series(tmp_path: Path, balls: LabelMapVolume) -> None:
    header = pydicom.dcmread(written(tmp_path, balls))
    slices = slices_of(balls)
    source = next(iter(slices.values()))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "StudyID", "FrameOfReferenceUID"):
        assert header[keyword].value == source[keyword].value
    (frame_of_reference,) = header.ReferencedFrameOfReferenceSequence
    (study,) = frame_of_reference.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert frame_of_reference.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == source.StudyInstanceUID
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence} == set(slices)


@pytest.mark.parametrize(
    "tags",
    [
        dict.fromkeys(("PatientID", "PatientName", "StudyID", "StudyDate", "PatientSex", "SeriesNumber")),
        {"FrameOfReferenceUID": None, "PositionReferenceIndicator": None},
        {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100", "StudyID": "x" * 20},
        {"SeriesNumber": 2**31 - 1, "PatientBirthDate": "unknown", "PatientAge": "63"},
        {"ClinicalTrialSponsorName": "Sponsor", "ClinicalTrialProtocolID": "P", "ClinicalTrialSubjectID": "7"},
    ],
)
def test_odd_headers(tmp_path: Path, segmented_balls: SegmentedBalls, tags: dict[str, Any]) -> None:
    segmented = segmented_balls(tmp_path / "series", **tags)
    path = written(tmp_path, segmented)
    assert [line for line in complaints(path) if "DICOMDIR" not in line] == []
    assert_read_back(path, segmented)


def test_other_sources_are_refused(tmp_path: Path, balls: LabelMapVolume) -> None:
    with pytest.raises(OutputError, match=r"there is no label"):
        written(tmp_path, replace(balls, labels=Labels.from_values([])))
    with pytest.raises(OutputError, match=r"mask\.dcm: DICOM masks lie on the slices of a DICOM series.*--like"):
        written(tmp_path, replace(balls, source=None))


@pytest.mark.parametrize("modality", ["CT", "PET", "MR_T1"])
def test_real_contours_written_again(real_data: Path, tmp_path: Path, modality: str) -> None:
    """A tumour as it was drawn, read as a mask, written and read again."""
    found = find_series(real_data / "sarcoma" / "dicom" / "STS_001" / modality)
    (source,), (drawn,) = found.sources, found.segmentations
    geometry = read_dicom(source).geometry
    segmentation = read_segmentation(drawn, geometry, source)
    names = {segment.name: i for i, segment in enumerate(segmentation.segments, start=1)}
    segmented = LabelMapVolume(segmentation.label_map(names), geometry, Labels.from_names(names), source)
    assert segmented.label_map.any()
    path = written(tmp_path, segmented)
    assert not [line for line in complaints(path) if line.startswith("Error")]
    assert_read_back(path, segmented)
    assert_rasterised(path, segmented, united=True)
