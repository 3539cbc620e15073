"""DICOM SEG of the type LABELMAP against dciodvfy, dcmqi, highdicom, pydicom and our own reader."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_judges import assert_read_back, by_simpleitk, complaints, dcmqi_program
from dicom_kinds import KINDS

from medseg.errors import LabelError, OutputError
from medseg.io.dicom_seg import writer
from medseg.io.dicom_seg.check import check_dicom_label_map
from medseg.io.dicom_seg.writer import LABEL_MAP, write_dicom_label_map, write_dicom_seg
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.labels import Labels

SegmentedBalls = Callable[..., LabelMapVolume]


@pytest.mark.parametrize("kind", ["oblique", pytest.param("missing slice", marks=pytest.mark.slow)])
def test_each_slice_has_one_frame_with_the_numbers_of_all_segments(
    tmp_path: Path, segmented_balls: SegmentedBalls, kind: str
) -> None:
    segmented = segmented_balls(tmp_path / "series", kind)
    (path,) = write_dicom_label_map(tmp_path / "mask.dcm", segmented)
    assert complaints(path) == []
    assert check_dicom_label_map(path, segmented).passed
    header, binary = pydicom.dcmread(path), pydicom.dcmread(write_dicom_seg(tmp_path / "b.dcm", segmented)[0])
    assert header.SegmentationType == "LABELMAP" and header.SOPInstanceUID != binary.SOPInstanceUID
    places = [tuple(f.PlanePositionSequence[0].ImagePositionPatient) for f in header.PerFrameFunctionalGroupsSequence]
    assert len(set(places)) == header.NumberOfFrames <= binary.NumberOfFrames
    assert [item.SegmentLabel for item in header.SegmentSequence] == ["liver", "kidney_left"]
    assert header.PixelPaddingValue == 0  # and 0 is no segment
    assert header.SeriesDescription.endswith("(not for clinical use)")
    if KINDS[kind].is_grid:
        assert_read_back(path, segmented)


@pytest.mark.slow
def test_dcmqi_and_highdicom_see_the_same(tmp_path: Path, organs: LabelMapVolume) -> None:
    (path,) = write_dicom_label_map(tmp_path / "mask.dcm", organs)
    dcmqi_program("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nrrd")
    array, place = by_simpleitk(tmp_path / "1.nrrd")
    index = np.rint(organs.geometry.index(place.world(np.argwhere(array)))).astype(int)
    found = np.zeros_like(organs.label_map)
    found[tuple(index.T)] = array[array > 0]
    np.testing.assert_array_equal(found, organs.label_map)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    assert np.unique(volume.array, return_counts=True)[1].tolist()[1:] == [
        (organs.label_map == value).sum() for value in (1, 2)
    ]


def test_a_wrong_pixel_is_found(tmp_path: Path, organs: LabelMapVolume) -> None:
    (path,) = write_dicom_label_map(tmp_path / "mask.dcm", organs)
    changed = organs.label_map.copy()
    changed[20, 20, 10] = 2 - changed[20, 20, 10] // 2
    certificate = check_dicom_label_map(path, replace(organs, label_map=changed))
    assert not certificate.passed and certificate.n_different >= 1


def test_overlap_and_unknown_values_are_refused(tmp_path: Path, balls: LabelMapVolume) -> None:
    labels = Labels.from_names({"liver": 1, "kidney": 2}, {"both": (1, 2)})
    with pytest.raises(OutputError, match="a label map holds one structure a pixel; choose dicom-seg"):
        write_mask(FORMATS[LABEL_MAP], tmp_path / "mask.dcm", replace(balls, labels=labels))
    with pytest.raises(LabelError, match=r"\[2\]"):
        write_dicom_label_map(tmp_path / "mask.dcm", replace(balls, labels=Labels.from_names({"liver": 1})))
    assert not list(tmp_path.glob("mask*"))


def test_many_frames_are_told_of(
    tmp_path: Path, balls: LabelMapVolume, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "MOST_FRAMES", 5)
    write_dicom_seg(tmp_path / "mask.dcm", balls)
    assert "dicom-seg-labelmap has one for each slice" in " ".join(capsys.readouterr().err.split())
