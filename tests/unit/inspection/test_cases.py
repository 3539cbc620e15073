"""Cases against each other, and series by patient."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom.uid import generate_uid

WriteSlices = Callable[..., list[Path]]
SLICES = np.random.default_rng(0).integers(0, 99, (4, 8, 7)).astype(np.int16)


def test_a_copy_of_a_case_is_told(study: Any, look: Any, findings: Any) -> None:
    study.add("a")
    study.add("b")
    shutil.copy(study.image("a"), study.image("c"))
    shutil.copy(study.label("a"), study.label("c"))
    (finding,) = findings(look(study.folder), "copy")
    assert (finding.severity, finding.case_id) == ("warning", "c")
    assert finding.what.endswith("another case, a")


def test_a_four_dimensional_image_among_others_is_a_problem(study: Any, look: Any, affine: Any, shape: Any) -> None:
    for name in "abc":
        study.add(name)
    nibabel.save(nibabel.Nifti1Image(np.ones((*shape, 3), np.int16), affine), study.image("c"))
    found = look(study.folder, voxels=False)
    assert [(finding.rule, finding.case_id) for finding in found.problems] == [("channel-count", "c")]
    assert [tuple(series.oddities) for series in found.series if series.role == "image"] == [(), (), ("3 channels",)]


def test_voxel_sizes_that_vary_are_a_note(study: Any, look: Any, affine: np.ndarray) -> None:
    study.add("a")
    study.add("b", affine=affine @ np.diag([3, 3, 1, 1]))
    (finding,) = look(study.folder).findings
    assert (finding.rule, finding.severity, finding.path) == ("mixed-spacing", "note", study.folder)


def test_channels_on_other_grids_are_a_problem_unless_connected(
    tmp_path: Path, look: Any, findings: Any, write_image: Any, write_slices: WriteSlices
) -> None:
    for channel, size in (("t1", 8), ("t2", 6)):
        write_image(tmp_path / "nifti" / f"p_{channel}.nii.gz", np.ones((size, size, size), np.int16))
        write_slices(
            tmp_path / "dicom" / f"p_{channel}",
            SLICES[:, :size],
            FrameOfReferenceUID="1.2.3",
            uids=("p", "1.2", generate_uid()),
        )
    images = ["t1=*_t1.nii.gz", "t2=*_t2.nii.gz"]
    (finding,) = findings(look(tmp_path / "nifti", images=images), "channel-grid")
    assert finding.severity == "problem"
    assert "--registered" in finding.to_do
    (finding,) = findings(look(tmp_path / "dicom", images=["t1=*_t1", "t2=*_t2"]), "channel-grid")
    assert finding.severity == "note"


def test_patients_that_share_an_id_are_told(
    tmp_path: Path, look: Any, findings: Any, write_slices: WriteSlices
) -> None:
    for i, birth in enumerate(("19500101", "19620303")):
        uids = ("anon", generate_uid(), generate_uid())
        write_slices(tmp_path / str(i), SLICES + i, uids=uids, PatientBirthDate=birth)
    found = look(tmp_path)
    assert len(found.patients) == 1
    assert len(found.patients[0].studies) == 2
    assert "share the ID 'anon'" in findings(found, "shared-patient-id")[0].what


def test_series_without_a_patient_are_told(tmp_path: Path, look: Any, findings: Any, write_slices: WriteSlices) -> None:
    for i in range(2):
        write_slices(tmp_path / str(i), SLICES + i, uids=("", generate_uid(), generate_uid()))
    assert "2 series without a PatientID" in findings(look(tmp_path), "no-patient-id")[0].what


def test_names_and_burned_in_text_are_told_but_not_repeated(
    tmp_path: Path, look: Any, findings: Any, write_slices: WriteSlices
) -> None:
    write_slices(tmp_path, SLICES, PatientName="Doe^Jane", BurnedInAnnotation="YES", StudyDate="20200131")
    found = look(tmp_path)
    assert {"patient-name", "burned-in-text"} <= {finding.rule for finding in found.findings}
    assert found.patients[0].studies[0].date == "2020-01-31"
    assert "Doe" not in str(found.as_json())


@pytest.mark.parametrize(
    ("units", "spacing", "rule"),
    [("meter", 1.0, "spacing"), ("mm", 400.0, "spacing"), ("unknown", 400.0, "spacing"), ("unknown", 0.001, "unit")],
)
def test_lengths_that_cannot_be_meant(
    study: Any, look: Any, findings: Any, shape: Any, units: str, spacing: float, rule: str
) -> None:
    study.add("a")
    image = nibabel.Nifti1Image(np.ones(shape, np.int16), np.diag([spacing, spacing, spacing, 1]))
    image.header.set_xyzt_units(units)
    nibabel.save(image, study.image("a"))
    assert [finding.severity for finding in findings(look(study.folder), rule)] == ["warning"]


def test_another_unit_is_converted_and_told(study: Any, look: Any, findings: Any, shape: Any) -> None:
    study.add("a")
    for path in (study.image("a"), study.label("a")):
        image = nibabel.Nifti1Image(np.ones(shape, np.int16), np.diag([10, 10, 20, 1]))
        image.header.set_xyzt_units("micron")
        nibabel.save(image, path)
    found = look(study.folder)
    assert [finding.severity for finding in findings(found, "unit")] == ["note", "note"]
    assert next(found.images).grid.spacing == pytest.approx((0.01, 0.01, 0.02))


def test_two_places_in_one_header_are_told(study: Any, look: Any, findings: Any, affine: np.ndarray) -> None:
    study.add("a")
    image = nibabel.load(study.image("a"))
    moved = affine.copy()
    moved[0, 3] += 3
    image.header.set_qform(moved, code=1)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header), study.image("a"))
    (finding,) = findings(look(study.folder), "two-places")
    assert finding.severity == "warning"
    assert "3 mm apart" in finding.what


def test_damage_in_voxels_is_found_when_all_are_read(study: Any, look: Any, affine: np.ndarray, shape: Any) -> None:
    study.add("a")
    values = np.ones(shape, np.float32)
    values[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, affine), study.image("a"))
    assert look(study.folder, voxels=False).problems == ()
    assert look(study.folder).problems  # as it does by itself where files are few
    (finding,) = look(study.folder, voxels=True).problems
    assert "NaN" in finding.what


def test_a_truncated_file_is_found_by_its_size(study: Any, look: Any) -> None:
    study.add("a")
    study.add("b")
    content = study.image("b").read_bytes()
    study.image("b").write_bytes(content[: len(content) // 2])
    found = look(study.folder)
    assert [(finding.rule, finding.case_id) for finding in found.problems] == [("unreadable", "b")]
    assert [case.case.case_id for case in found.cases] == ["a", "b"]
