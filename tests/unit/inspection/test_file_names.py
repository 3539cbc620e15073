"""Files whose names hide what they are."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

WriteSlices = Callable[..., list[Path]]


def fixed_names(found: Any) -> list[str]:
    return [change.path.relative_to(found.fixed.folder).as_posix() for change in found.fixed.changes]


@pytest.mark.parametrize("is_gzipped", [True, False])
def test_a_nifti_file_is_stored_as_its_name_says(study: Any, look: Any, tmp_path: Path, is_gzipped: bool) -> None:
    study.add("good")
    study.add("a")
    voxels = np.asarray(nibabel.load(study.image("a")).dataobj)
    content = study.image("a").read_bytes()
    study.image("a").unlink()
    wrong = study.folder / "images" / ("a.nii" if is_gzipped else "a.nii.gz")
    wrong.write_bytes(content if is_gzipped else gzip.decompress(content))
    found = look(study.folder, fix=tmp_path / "copy")
    assert [(finding.rule, finding.path) for finding in found.problems] == [("wrong-suffix", wrong)]
    assert fixed_names(found) == [f"images/{wrong.name}"]
    assert found.fixed.left == ()
    np.testing.assert_array_equal(nibabel.load(tmp_path / "copy/images" / wrong.name).dataobj, voxels)


def test_nifti_that_is_hidden_by_its_name_is_found_and_renamed(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")
    study.add("b")
    study.image("b").rename(study.folder / "images/b")
    found = look(study.folder, fix=tmp_path / "copy")
    assert "wrong-suffix" in [finding.rule for finding in found.problems]
    assert fixed_names(found) == ["images/b.nii.gz"]
    assert found.fixed.left == ()
    assert [case.case.case_id for case in look(tmp_path / "copy").cases] == ["a", "b"]


def test_a_picture_with_the_suffix_of_another_is_renamed_in_tables_too(tmp_path: Path, look: Any) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "aa.png", "a_mask.png", "aa_mask.png"):
        pixels = np.random.default_rng(len(name)).integers(0, 2, (20, 20), np.uint8) * 255
        Image.fromarray(pixels).save(folder / name, format="PNG")
    (folder / "cases.csv").write_text("case_id,image,label\na,a.jpg,a_mask.png\naa,./aa.png,aa_mask.png\n")
    found = look(folder, fix=tmp_path / "copy")
    assert [(finding.rule, finding.severity) for finding in found.findings] == [("wrong-suffix", "warning")]
    assert fixed_names(found) == ["a.png"]
    assert found.fixed.left == ()
    assert "a,a.png,a_mask.png\naa,./aa.png," in (tmp_path / "copy/cases.csv").read_text()


def test_a_name_that_is_taken_is_not_taken_again(tmp_path: Path, look: Any, write_image: Any) -> None:
    write_image(tmp_path / "in/a.nii.gz", np.ones((5, 4, 3), np.int16))
    (tmp_path / "in/a.nrrd").write_bytes((tmp_path / "in/a.nii.gz").read_bytes())
    found = look(tmp_path / "in", fix=tmp_path / "copy")
    assert found.fixed.changes == ()
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["a.nii.gz", "a.nrrd", "changes.csv"]


def test_dicom_needs_no_suffix(tmp_path: Path, look: Any, write_slices: WriteSlices) -> None:
    slices = np.random.default_rng(0).integers(0, 99, (4, 8, 7)).astype(np.int16)
    write_slices(tmp_path / "study", slices, names=["1", "2.5", "IM3", "four.ima"])
    found = look(tmp_path / "study")
    assert [series.format for series in found.series] == ["CT"]
    assert found.findings == ()


def test_dicom_under_the_name_of_another_format_is_renamed(
    tmp_path: Path, look: Any, write_slices: WriteSlices
) -> None:
    slices = np.random.default_rng(0).integers(0, 99, (3, 8, 7)).astype(np.int16)
    write_slices(tmp_path / "study", slices, names=["1.nii", "2.nii", "3.nii"])
    found = look(tmp_path / "study", fix=tmp_path / "copy")
    assert {finding.rule for finding in found.problems} >= {"wrong-suffix"}
    assert found.fixed.left == ()
    (series,) = look(tmp_path / "copy").series
    assert series.grid.shape == (7, 8, 3)


def test_formats_that_are_not_read_are_told_once_each(study: Any, look: Any, findings: Any) -> None:
    study.add("a")
    for name in ("b.mgz", "c.mgz", "d.npy"):
        (study.folder / name).write_bytes(b"?")
    told = [finding.what for finding in findings(look(study.folder), "foreign-format")]
    assert told == ["FreeSurfer files are not read (b.mgz and 1 more)", "NumPy files are not read (d.npy)"]


def test_names_in_a_dataset_json_are_kept(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")
    study.image("a").write_bytes(gzip.decompress(study.image("a").read_bytes()))
    listed = {"labels": {"1": "x", "2": "y"}, "training": [{"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}]}
    (study.folder / "dataset.json").write_text(json.dumps(listed))
    found = look(study.folder, fix=tmp_path / "copy")
    assert [finding.rule for finding in found.problems] == ["wrong-suffix"]
    assert found.fixed.left == ()
    assert json.loads((tmp_path / "copy/dataset.json").read_text()) == listed


@pytest.mark.parametrize("content", ["PNG", "JPEG"])
def test_a_warning_hides_no_problem(tmp_path: Path, look: Any, content: str) -> None:
    """Pillow reads pictures whatever their names; TIFF is read by another library."""
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "in/a.tif", format=content)
    found = look(tmp_path / "in", fix=tmp_path / "copy")
    assert {(finding.rule, finding.severity) for finding in found.findings} == {
        ("wrong-suffix", "warning"),
        ("unreadable", "problem"),
    }
    assert fixed_names(found) == (["a.png"] if content == "PNG" else [])
