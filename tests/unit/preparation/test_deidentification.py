"""What leaves by --deidentify tells nobody whose it is, and can still be learnt from."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_kinds import KINDS, write_kind

import medseg
from medseg.dataset.prepared_json import read_dataset
from medseg.errors import ConfigError, SourceError
from medseg.io.discover import image_sources
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import format_named, write_mask
from medseg.io.read import read_volume
from medseg.labels import Labels
from medseg.preparation.deidentification import deidentified_copy

SECRETS = ("Quux", "Jane", "ID-4711", "19700102", "A77123", "Springfield")
TAGS = {
    "PatientName": "Quux^Jane", "PatientID": "ID-4711", "PatientBirthDate": "19700102", "AccessionNumber": "A77123",
    "InstitutionName": "Springfield", "StudyDate": "19990102", "SeriesDescription": "Jane Quux",
    "OperatorsName": "Jane",
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of a patient in folders named after her: CT, a SEG and an RTSTRUCT, nested and private elements."""
    folder = write_kind(tmp_path / "Jane Quux" / "ct", KINDS["CT"], **TAGS)  # type: ignore[arg-type]
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        item = pydicom.Dataset()
        item.PatientName, item.ReferencedSOPInstanceUID = "Quux^Jane", header.SOPInstanceUID
        header.ReferencedPatientSequence = [item]
        header.RequestAttributesSequence = [item]
        header.ReferencedImageSequence = [item]
        header.private_block(0x0011, "Jane Quux", create=True).add_new(1, "LO", "Jane")
        header.save_as(file)
    (source,) = image_sources(folder).sources
    volume = read_volume(source)
    label_map = (volume.array[0] > 500).astype(np.uint8)
    segmented = LabelMapVolume(label_map, volume.geometry, Labels.from_names({"ball": 1}), source, "model")
    for name in ("dicom-seg", "rtstruct"):
        write_mask(format_named(name), tmp_path / "Jane Quux" / f"{name}.dcm", segmented)
    (tmp_path / "Jane Quux" / "letter about Jane.txt").write_text("Dear Jane")
    return tmp_path / "Jane Quux"


def test_nothing_that_is_prepared_names_the_patient(study: Path, tmp_path: Path) -> None:
    (study / "rtstruct.dcm").unlink()
    key = tmp_path / "keys" / "key.json"
    result = medseg.preprocess(study, tmp_path / "prepared", deidentify=key)
    assert [case.case_id for case in result.record.cases] != []
    assert result.record.labels is not None
    assert result.record.labels.names == ["ball"]
    assert result.record.cases[0].volumes_ml["ball"] == pytest.approx(2.668, rel=0.05)
    uids = {str(pydicom.dcmread(file).StudyInstanceUID) for file in (study / "ct").iterdir()}
    for path in (tmp_path / "prepared").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for secret in (*SECRETS, *uids):
            assert secret.lower() not in str(path.relative_to(tmp_path)).lower()
            assert secret.lower().encode() not in content.lower(), (path, secret)
    assert "4711" in key.read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert read_dataset(tmp_path / "prepared").source.endswith("deidentified")


@pytest.mark.slow
def test_the_same_key_gives_the_same_names_and_objects(study: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    for name in ("a", "b"):
        medseg.preprocess(study / "ct", tmp_path / name, deidentify=key)
    files = [sorted(file.name for file in (tmp_path / name / "deidentified").rglob("*.dcm")) for name in ("a", "b")]
    assert files[0] == files[1]
    assert json.loads(key.read_text())["patients"] == {"ID-4711": "P0001"}
    medseg.preprocess(study / "ct", tmp_path / "c", deidentify=tmp_path / "other.json")
    assert {file.name for file in (tmp_path / "c").rglob("*.dcm")}.isdisjoint(files[0])


@pytest.mark.slow
def test_objects_still_refer_to_one_another(study: Path, tmp_path: Path) -> None:
    problems = deidentified_copy(study, tmp_path / "prepared" / "deidentified", tmp_path / "key.json")
    assert ["no DICOM" in problem.message for problem in problems] == [True]
    copies = [pydicom.dcmread(file) for file in (tmp_path / "prepared" / "deidentified").rglob("*.dcm")]
    of = {each.Modality: each for each in copies}
    images = {each.SOPInstanceUID: each for each in copies if each.Modality == "CT"}
    first = next(iter(images.values()))
    assert {str(each.PatientID) for each in copies} == {str(each.PatientName) for each in copies} == {"P0001"}
    assert of["SEG"].ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
    assert of["SEG"].SegmentSequence[0].SegmentLabel == of["RTSTRUCT"].StructureSetROISequence[0].ROIName == "ball"
    contour = of["RTSTRUCT"].ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    assert contour.ReferencedSOPInstanceUID in images
    assert first.ReferencedImageSequence[0].ReferencedSOPInstanceUID in images
    assert all(each.PatientIdentityRemoved == "YES" and not any(e.tag.is_private for e in each) for each in copies)
    assert {each.file_meta.MediaStorageSOPInstanceUID for each in copies} == {each.SOPInstanceUID for each in copies}


@pytest.mark.slow
def test_what_cannot_be_made_safe_is_left_out_or_refused(
    study: Path, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    for file in (study / "ct").iterdir():
        header = pydicom.dcmread(file)
        header.BurnedInAnnotation = "YES"
        header.save_as(file)
        break
    result = medseg.preprocess(study / "ct", tmp_path / "prepared", deidentify=tmp_path / "key.json")
    assert any("text in its pixels" in problem.message for problem in result.problems)
    assert len(list((tmp_path / "prepared" / "deidentified").rglob("*.dcm"))) == 19
    with pytest.raises(ConfigError, match="lie with the data"):
        medseg.preprocess(study, tmp_path / "p2", deidentify=tmp_path / "p2" / "key.json")
    write_image(tmp_path / "nifti" / "a.nii.gz")
    with pytest.raises(SourceError, match="only DICOM"):
        medseg.preprocess(tmp_path / "nifti", tmp_path / "p3", deidentify=tmp_path / "key.json")
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(ConfigError, match="secret"):
        medseg.preprocess(study, tmp_path / "p4", deidentify=tmp_path / "key.json")


@pytest.mark.slow
def test_pixels_and_places_stay(study: Path, tmp_path: Path) -> None:
    medseg.preprocess(study / "ct", tmp_path / "prepared", deidentify=tmp_path / "key.json")
    before, after = (read_volume(folder) for folder in (study / "ct", tmp_path / "prepared" / "deidentified"))
    assert np.array_equal(before.array, after.array)
    assert before.geometry.difference(after.geometry) is None or before.geometry == after.geometry
