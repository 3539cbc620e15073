"""Where headers lost the spacing, what the user says holds in every command, and masks keep the header."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from model_records import record_of
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.config import load
from medseg.dataset.layouts import find_cases
from medseg.inferers.model import save_model
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.volume import Spacing3

WriteImage = Callable[..., Path]
SPACING = (1.25, 1.25, 10.0)
ONE_WORKER = load(overrides=["preprocessing.workers=1"])


@pytest.fixture
def hearts(tmp_path: Path, write_image: WriteImage) -> Path:
    """Two cases of 64×60×8 voxels, whose headers say nothing."""
    for i in range(2):
        label_map = np.zeros((64, 60, 8), np.uint8)
        label_map[20:40, 20 + i : 40, 2:6] = 1
        image = (100 + 80 * label_map + np.random.default_rng(i).normal(0, 5, label_map.shape)).astype(np.int16)
        write_image(tmp_path / "hearts" / "images" / f"p{i}.nii.gz", image)
        write_image(tmp_path / "hearts" / "labels" / f"p{i}.nii.gz", label_map)
    return tmp_path / "hearts"


def test_it_is_kept_with_the_prepared_dataset(hearts: Path, tmp_path: Path) -> None:
    arguments = ["preprocess", str(hearts), "-o", str(tmp_path / "prepared"), "--workers", "1", "--spacing"]
    done = CliRunner().invoke(app, [*arguments, "1.25", "1.25", "10"], catch_exceptions=False)
    assert done.exit_code == 0
    content = json.loads((tmp_path / "prepared" / "dataset.json").read_text())
    assert [case["spacing"] for case in content["cases"]] == [list(SPACING)] * 2
    assert content["cases"][0]["volumes_ml"] == {"foreground": 25.0}
    fingerprint = json.loads((tmp_path / "prepared" / "fingerprint.json").read_text())
    assert fingerprint["spacings"] == [list(SPACING)] * 2
    cases = find_cases(tmp_path / "prepared").cases
    assert [case.spacing for case in cases] == [SPACING] * 2


def test_distances_of_masks_that_keep_the_header_are_in_the_millimetres_that_were_said(
    hearts: Path, tmp_path: Path
) -> None:
    medseg.preprocess(hearts, tmp_path / "prepared", config=ONE_WORKER, spacing=SPACING)
    (tmp_path / "masks").mkdir()
    for path in (hearts / "labels").iterdir():
        image = nibabel.load(path)
        moved = np.roll(np.asarray(image.dataobj), 1, axis=2)  # a slice further: 10 mm
        nibabel.save(nibabel.Nifti1Image(moved, image.affine), tmp_path / "masks" / path.name)
    evaluation = medseg.evaluate(
        tmp_path / "masks", tmp_path / "prepared", metrics=["hd_mm", "reference_ml"], workers=1
    )
    assert evaluation.problems == ()
    assert evaluation.records[0].values == {"hd_mm": pytest.approx(10.0), "reference_ml": pytest.approx(25.0)}


def test_all_say_that_it_is_lost_until_it_is_said(hearts: Path, tmp_path: Path) -> None:
    assert [finding.rule for finding in medseg.inspect(hearts, workers=1).findings] == ["lost-spacing"] * 2
    found = medseg.inspect(hearts, workers=1, spacing=SPACING)
    assert {(finding.rule, finding.severity) for finding in found.findings} == {("said-spacing", "note")}
    assert len(found.files) == 4
    assert found.cases[0].volumes_ml == {"foreground": pytest.approx(25.0)}
    result = medseg.preprocess(hearts, tmp_path / "prepared", config=ONE_WORKER)
    assert ["--spacing" in warning.message for warning in result.warnings] == [True, True]
    assert medseg.preprocess(hearts, tmp_path / "prepared", config=ONE_WORKER, spacing=SPACING).warnings == ()


def test_what_is_written_anew_and_what_is_copied_go_together(hearts: Path, tmp_path: Path) -> None:
    """Of an archive, MetaImage becomes NIfTI with the spacing that is said, and NIfTI is copied as it is."""
    for path in (hearts / "images").iterdir():
        sitk.WriteImage(sitk.ReadImage(path), path.with_name(path.name.replace(".nii.gz", ".mha")))
        path.unlink()
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", hearts)
    result = medseg.preprocess(archive, tmp_path / "prepared", config=ONE_WORKER, spacing=SPACING)
    assert [case.spacing for case in result.record.cases] == [SPACING] * 2
    for case in find_cases(tmp_path / "prepared").cases:
        assert case.label is not None
        image, label = (medseg.read_volume(source) for source in (case.images[0], case.label.sources[0]))
        assert image.geometry.difference(label.geometry) is None
        assert image.geometry.spacing == SPACING


def test_a_copy_gets_it_into_its_headers(hearts: Path, tmp_path: Path) -> None:
    found = medseg.inspect(hearts, workers=1, spacing=SPACING, fix=tmp_path / "copy")
    assert found.fixed is not None
    assert {change.what for change in found.fixed.changes} == {"spacing, as said"}
    assert found.fixed.left == medseg.inspect(tmp_path / "copy", workers=1).findings == ()
    for path in (tmp_path / "copy").rglob("*.nii.gz"):
        np.testing.assert_array_equal(nibabel.load(path).header.get_zooms(), SPACING)
        before = nibabel.load(hearts / path.relative_to(tmp_path / "copy"))
        np.testing.assert_array_equal(nibabel.load(path).dataobj, before.dataobj)


def test_a_header_that_says_otherwise_is_told(tmp_path: Path, write_image: WriteImage) -> None:
    affine = np.diag([0.9, 0.9, 3.0, 1.0])
    path = write_image(tmp_path / "a.nii.gz", np.arange(360, dtype=np.int16).reshape(12, 10, 3), affine)
    result = medseg.preprocess(path, tmp_path / "prepared", config=ONE_WORKER, spacing=SPACING)
    assert ["0.9 0.9 3 mm, where 1.25 1.25 10 mm is said" in warning.message for warning in result.warnings] == [True]


@pytest.fixture
def small(tmp_path: Path, write_image: WriteImage) -> Path:
    """An image of few voxels, with the identity for a header."""
    return write_image(tmp_path / "small" / "p0.nii.gz", np.random.default_rng(0).normal(size=(12, 10, 3)))


def write_model(folder: Path, plan: Plan, said: tuple[Spacing3, ...] = ()) -> Path:
    record = record_of(plan, {"a": 1}, ("MR",), said_spacings=said)
    save_model(folder, record, build_network(1, 2, plan.architecture).state_dict())
    return folder


def test_volumes_are_as_said_and_masks_keep_the_header(small: Path, tmp_path: Path, tiny_plan: Plan) -> None:
    model = write_model(tmp_path / "model", tiny_plan)
    options = {"device": "cpu", "backend": "torch"}
    said = medseg.predict(
        model, small, tmp_path / "masks", spacing=SPACING, save_probabilities=True,
        formats=["nifti", "seg-nrrd"], **options,
    )  # fmt: skip
    assert said.problems == ()
    (prediction,) = said
    assert prediction.volumes_ml["a"] == pytest.approx(prediction.voxels["a"] * 15.625 / 1000)
    masks = tmp_path / "masks"
    for mask in (masks / "p0.nii.gz", masks / "p0.seg.nrrd", *(masks / "probabilities").rglob("*.nii.gz")):
        np.testing.assert_allclose(medseg.read_volume(mask).geometry.spacing, 1)
    np.testing.assert_array_equal(nibabel.load(masks / "p0.nii.gz").affine, nibabel.load(small).affine)
    assert not any("spacing" in warning for warning in prediction.warnings)


def test_a_call_that_says_otherwise_predicts_again(small: Path, tmp_path: Path, tiny_plan: Plan) -> None:
    model = write_model(tmp_path / "model", tiny_plan)
    options = {"device": "cpu", "backend": "torch"}
    for spacing, done_before in ((SPACING, ()), (SPACING, ("p0",)), (None, ()), ((1.0, 1.0, 9.0), ())):
        result = medseg.predict(model, small, tmp_path / "masks", spacing=spacing, **options)
        assert result.done_before == done_before
    (case,) = json.loads((tmp_path / "masks" / "predictions.json").read_text())["cases"]
    assert case["spacing"] == [1, 1, 9]


def test_a_model_remembers_that_it_was_said(small: Path, tmp_path: Path, tiny_plan: Plan) -> None:
    """Though the header of so small an image could be true."""
    model = write_model(tmp_path / "model", tiny_plan, (SPACING,))
    (prediction,) = medseg.predict(model, small, device="cpu", backend="torch")
    assert sum("--spacing 1.25 1.25 10" in warning for warning in prediction.warnings) == 1
    (prediction,) = medseg.predict(model, small, device="cpu", backend="torch", spacing=SPACING)
    assert not any("--spacing" in warning for warning in prediction.warnings)


def test_segments_are_placed_by_the_header_and_measured_as_said(hearts: Path, tmp_path: Path) -> None:
    """A .seg.nrrd that was drawn on an image which says 1×1×1 mm says so too."""
    for path in (hearts / "labels").iterdir():
        medseg.export(path, hearts / "labels" / path.name.replace(".nii.gz", ".seg.nrrd"))
        path.unlink()
    result = medseg.preprocess(hearts, tmp_path / "prepared", config=ONE_WORKER, spacing=SPACING)
    assert result.problems == ()
    assert set(result.record.cases[0].volumes_ml.values()) == {25.0}
    evaluation = medseg.evaluate(hearts / "labels", tmp_path / "prepared", metrics=["dice", "reference_ml"], workers=1)
    assert evaluation.records[0].values == {"dice": 1.0, "reference_ml": pytest.approx(25.0)}
