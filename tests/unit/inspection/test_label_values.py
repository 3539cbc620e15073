"""Values of label maps that cannot be meant, and labels on the wrong side."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.dataset.cases import Case, LabelSource
from medseg.inspection.label_map import Drawn
from medseg.inspection.label_values import value_findings
from medseg.io.source import ImageSource
from medseg.labels import Labels


def picture(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def mask(seed: int = 0) -> np.ndarray:
    """0 and 255."""
    pixels = np.zeros((64, 48), np.uint8)
    pixels[10 + seed : 50, 8:40] = 255
    return pixels


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two images with masks of 0 and 255."""
    random = np.random.default_rng(0)
    for i, name in enumerate("ab"):
        picture(tmp_path / f"pictures/images/{name}.png", random.integers(0, 255, (64, 48), np.uint8))
        picture(tmp_path / f"pictures/labels/{name}.png", mask(i))
    return tmp_path / "pictures"


def test_strays_in_a_mask_are_rounded(pictures: Path, look: Any, tmp_path: Path) -> None:
    spoilt = mask()
    spoilt[20, 10:14], spoilt[2, 3:5] = 254, 1
    picture(pictures / "labels/a.png", spoilt)
    found = look(pictures, fix=tmp_path / "copy")
    (finding,) = found.problems
    assert finding.rule == "stray-values"
    assert finding.what.endswith("in the values 0, 255, but holds others too: 254 (4 voxels), 1 (2 voxels)")
    assert found.fixed.left == ()
    (change,) = found.fixed.changes
    assert (change.what, change.before, change.after) == ("values of 6 voxels", "1 254", "0 255")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "copy/labels/a.png")), mask())


def test_values_where_no_label_is_known(pictures: Path) -> None:
    source = ImageSource(kind="image2d", path=pictures / "labels/a.png", files=(pictures / "labels/a.png",))
    case = Case("a", (source,), LabelSource((source,)))
    (finding,) = value_findings([Drawn(case, {255: 9})], Labels(items=()), {"a"})
    assert finding.rule == "stray-values" and finding.repair is None


def test_a_jpeg_mask_becomes_png(pictures: Path, look: Any, tmp_path: Path) -> None:
    (pictures / "labels/a.png").unlink()
    picture(pictures / "labels/a.jpg", mask(), quality=30)
    assert len(np.unique(np.asarray(Image.open(pictures / "labels/a.jpg")))) > 5
    found = look(pictures, fix=tmp_path / "copy")
    assert [finding.rule for finding in found.problems] == ["label-values"]
    assert found.fixed.left == ()
    assert not (tmp_path / "copy/labels/a.jpg").exists()
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "copy/labels/a.png")), mask())


def test_a_png_mask_called_jpg_is_put_right_once(pictures: Path, look: Any, tmp_path: Path) -> None:
    (pictures / "labels/a.png").rename(pictures / "labels/a.jpg")
    found = look(pictures, fix=tmp_path / "copy")
    assert [change.path.name for change in found.fixed.changes] == ["a.png"]
    assert found.fixed.left == ()
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "copy/labels/a.png")), mask())


def test_values_between_whole_numbers_are_rounded(study: Any, look: Any, tmp_path: Path, shape: Any) -> None:
    drawn = np.zeros(shape, np.float32)
    drawn[4:20, 4:16, 3:10] = 2
    blurred = drawn.copy()
    blurred[4, 4, 3:6] = 1.3
    blurred[5, 5, 5] = 2.0004
    study.add("a", label_map=blurred)
    found = look(study.folder, fix=tmp_path / "copy")
    assert [finding.rule for finding in found.problems] == ["label-values"]
    assert "0, 2" in found.problems[0].to_do
    assert found.fixed.left == ()
    fixed = np.asarray(nibabel.load(tmp_path / "copy/labels/a.nii.gz").dataobj)
    np.testing.assert_array_equal(fixed, drawn)


def test_an_image_in_place_of_a_label_map_is_not_rounded(study: Any, look: Any, shape: Any) -> None:
    study.add("a", label_map=np.random.default_rng(0).normal(0, 1, shape).astype(np.float32))
    assert [(finding.rule, finding.repair) for finding in look(study.folder).problems] == [("label-values", None)]


def test_values_without_a_name_are_told_and_near_ones_not_rounded(study: Any, look: Any, shape: Any) -> None:
    study.add("a")
    drawn = np.ones(shape, np.uint8)
    drawn[0, 0, 0] = 7
    study.add("b", label_map=drawn)
    (study.folder / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "tumour": 2}}))
    (finding,) = look(study.folder).problems
    assert (finding.rule, finding.case_id, finding.repair) == ("stray-values", "b", None)
    assert "[7]" in finding.what
    assert "liver" in look(study.folder).cases[0].voxels


def test_an_empty_label_map_is_a_problem(study: Any, look: Any, shape: Any) -> None:
    study.add("a")
    study.add("b", label_map=np.zeros(shape, np.uint8))
    (finding,) = look(study.folder).problems
    assert (finding.rule, finding.case_id) == ("empty-label-map", "b")


def test_objects_that_are_numbered_are_told(study: Any, look: Any, findings: Any, shape: Any) -> None:
    study.add("a", label_map=np.arange(np.prod(shape)).reshape(shape).astype(np.int16) % 100)
    (finding,) = findings(look(study.folder), "many-labels")
    assert (finding.severity, finding.what.split(",")[0]) == ("warning", "the label maps hold 99 different values")
    study.add("a", label_map=np.arange(np.prod(shape)).reshape(shape).astype(np.int16) % 300)
    (finding,) = findings(look(study.folder), "many-labels")
    assert finding.severity == "problem"


@pytest.mark.parametrize("swapped", [False, True])
def test_sides_that_were_swapped_are_told(
    study: Any, look: Any, findings: Any, shape: Any, affine: np.ndarray, swapped: bool
) -> None:
    drawn = np.zeros(shape, np.uint8)
    drawn[2:6, 4:8, 4:8], drawn[18:22, 4:8, 4:8] = 1, 2  # x grows to the left: the first is on the right
    study.add("a", label_map=drawn)
    assert affine[0, 0] < 0
    names = {"kidney_left": 1, "kidney_right": 2} if swapped else {"kidney_left": 2, "kidney_right": 1}
    (study.folder / "dataset.json").write_text(json.dumps({"labels": names}))
    told = findings(look(study.folder), "sides-swapped")
    assert [(finding.severity, finding.what) for finding in told] == (
        [("warning", "kidney_left lies to the patient's right of kidney_right")] if swapped else []
    )


def test_volumes_are_in_ml_by_name(study: Any, look: Any, affine: np.ndarray) -> None:
    study.add("a")
    (case,) = look(study.folder).cases
    assert case.voxels == {"label_1": 16 * 12 * 7 - 6 * 4 * 3, "label_2": 6 * 4 * 3}
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    assert case.volumes_ml["label_2"] == pytest.approx(72 * voxel_ml, rel=1e-5)


def test_pixels_of_pictures_have_no_volume(pictures: Path, look: Any) -> None:
    case = look(pictures).cases[0]
    assert (case.voxels, case.volumes_ml) == ({"foreground": 40 * 32}, None)


def test_what_is_ignored_is_no_stray_and_how_much_is_annotated_is_told(study: Any, look: Any) -> None:
    study.add("a")
    drawn = np.asarray(nibabel.load(study.label("a")).dataobj).copy()
    drawn[:6] = 9
    study.add("b", label_map=drawn)
    labels = {"organ": 1, "core": 2, "ignore": 9}
    (study.folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    found = look(study.folder)
    assert found.problems == ()
    parts = {case["case_id"]: case["annotated_part"] for case in found.as_json()["cases"]}
    assert parts == {"a": 1.0, "b": 0.75}
    (note,) = [finding for finding in found.findings if finding.rule == "sparse"]
    assert (note.severity, note.what) == ("note", "in 1 of 2 cases not all voxels are annotated: 75.0% to 75.0% are")
    (study.folder / "dataset.json").write_text(json.dumps({"labels": {"organ": 1, "core": 2}}))
    assert [finding.rule for finding in look(study.folder).problems] == ["stray-values"]
    assert look(study.folder, ignore_value=9).problems == ()


def test_cases_that_name_other_labels_as_annotated_are_problems_as_in_preprocess(study: Any, look: Any) -> None:
    entries = []
    for name, annotated in (("a", ["organ"]), ("b", ["organ", "cor"])):
        study.add(name)
        entries.append({"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz", "annotated": annotated})
    content = {"labels": {"organ": 1, "core": 2}, "training": entries}
    (study.folder / "dataset.json").write_text(json.dumps(content))
    found = look(study.folder)
    (problem,) = found.problems
    assert (problem.rule, problem.case_id) == ("annotated-labels", "b")
    assert problem.what == "'cor' was annotated, but is no label"
    assert problem.to_do == "did you mean 'core'?"
    assert [case["annotated"] for case in found.as_json()["cases"]] == [["organ"], ["organ", "cor"]]
    shown = CliRunner().invoke(app, ["inspect", str(study.folder), "--workers", "1"], env={"COLUMNS": "200"})
    assert "only organ annotated" in shown.stdout
