"""What the UIDs of DICOM objects follow from: of predicted masks the images and the model, of drawn ones the mask."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_kinds import KINDS, balls_in, write_kind
from pydicom import dcmread

from medseg.io.dicom.series import find_series, read_dicom
from medseg.io.dicom.source_series import mask_digest, source_series
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, REPORTS
from medseg.labels import Labels

NAMES = [name for name, each in {**FORMATS, **REPORTS}.items() if each.on_dicom]
BALLS = Labels.from_names({"liver": 1, "kidney_left": 2})


def uids(folder: Path, name: str, segmented: LabelMapVolume) -> tuple[str, str]:
    """SOPInstanceUID and SeriesInstanceUID of what is written."""
    (file,) = {**FORMATS, **REPORTS}[name].write(folder / "written.dcm", segmented)
    header = dcmread(file, stop_before_pixels=True)
    assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
    return str(header.SOPInstanceUID), str(header.SeriesInstanceUID)


def drawn_on(folder: Path) -> LabelMapVolume:
    (source,) = find_series(folder).sources
    volume = read_dicom(source)
    return LabelMapVolume(balls_in(volume.array[0]), volume.geometry, BALLS, source, "model", predicted_by="a" * 64)


def test_a_rerun_of_a_prediction_replaces_and_does_not_double(tmp_path: Path) -> None:
    """Other voxels, another name of the model's folder, and a slice that comes late: the same object in the archive."""
    files = sorted(write_kind(tmp_path / "series", KINDS["CT"]).iterdir())
    whole = drawn_on(tmp_path / "series")
    rerun = replace(whole, label_map=without_a_voxel(whole), algorithm="copy of the model")
    of_whole = uids(tmp_path, "dicom-seg", whole)
    assert uids(tmp_path, "dicom-seg", rerun) == of_whole
    (tmp_path / "fewer").mkdir()
    for file in files[1:]:
        shutil.copy(file, tmp_path / "fewer")
    assert uids(tmp_path, "dicom-seg", drawn_on(tmp_path / "fewer")) == of_whole
    assert not {*uids(tmp_path, "dicom-seg", replace(whole, predicted_by="b" * 64))} & {*of_whole}


@pytest.mark.slow
def test_each_kind_of_object_is_its_own(tmp_path: Path, segmented_balls: Callable[..., LabelMapVolume]) -> None:
    whole = replace(segmented_balls(tmp_path / "series"), predicted_by="a" * 64)
    rerun = replace(whole, label_map=without_a_voxel(whole))
    of_whole = {name: uids(tmp_path, name, whole) for name in NAMES}
    assert {name: uids(tmp_path, name, rerun) for name in NAMES} == of_whole
    assert len({uid for each in of_whole.values() for uid in each}) == 2 * len(NAMES)


def without_a_voxel(segmented: LabelMapVolume) -> np.ndarray:
    other = segmented.label_map.copy()
    other[tuple(np.argwhere(other)[0])] = 0
    return other


def test_what_somebody_drew_is_another_object_when_it_changes(
    tmp_path: Path, segmented_balls: Callable[..., LabelMapVolume]
) -> None:
    drawn = segmented_balls(tmp_path / "series")
    first = uids(tmp_path, "dicom-seg", drawn)
    assert uids(tmp_path, "dicom-seg", replace(drawn, label_map=drawn.label_map.copy())) == first
    assert not {*uids(tmp_path, "dicom-seg", replace(drawn, label_map=without_a_voxel(drawn)))} & {*first}


@pytest.mark.parametrize("others", [{"kind": "coronal"}, {"kind": "CT", "StudyInstanceUID": "1.2.9"}])
def test_volumes_of_one_series_uid_are_told_apart(tmp_path: Path, others: dict[str, str]) -> None:
    """As in scouts of three orientations, or where an anonymiser gave all patients one SeriesInstanceUID."""
    found = set()
    for number, (kind, tags) in enumerate((("CT", {}), (others["kind"], {**others}))):
        tags.pop("kind", None)
        write_kind(
            tmp_path / str(number), KINDS[kind], **{"StudyInstanceUID": "1.2.8", "SeriesInstanceUID": "1.2.3", **tags}
        )
        segmented = drawn_on(tmp_path / str(number))
        found.add(mask_digest(segmented, source_series(segmented, tmp_path / "mask.dcm")))
    assert len(found) == 2
