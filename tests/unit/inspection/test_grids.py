"""Label maps off the grid of their image: headers are put right where voxels are as many and as large."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medseg.io.nifti.reader import PLACE_FIELDS
from medseg.io.read import read_geometry
from medseg.volume import Geometry


def shifted(affine: np.ndarray, *voxels: float) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array(voxels)
    return moved


def without_place(path: Path) -> None:
    """Sets sform_code and qform_code to 0, as some programs leave them; voxel sizes stay."""
    image = nibabel.load(path)
    lost = nibabel.Nifti1Image(np.asanyarray(image.dataobj), None)
    lost.header["pixdim"][1:4] = image.header["pixdim"][1:4]
    nibabel.save(lost, path)
    assert nibabel.load(path).header["sform_code"] == nibabel.load(path).header["qform_code"] == 0


def assert_put_right(study: Any, look: Any, folder: Path, wrong: Path, name: str = "a") -> None:
    """In the copy both lie on the grid that was right; voxels are as they were."""
    found = look(study.folder, fix=folder)
    assert found.fixed.left == ()
    assert [change.path.relative_to(folder) for change in found.fixed.changes] == [wrong.relative_to(study.folder)]
    right = study.image(name) if wrong != study.image(name) else study.label(name)
    there = folder / wrong.relative_to(study.folder)
    assert read_geometry(there).difference(read_geometry(right), 1e-5) is None
    np.testing.assert_array_equal(nibabel.load(there).dataobj, nibabel.load(wrong).dataobj)


def test_rounded_voxel_sizes_are_put_right_though_they_add_up(
    study: Any, look: Any, findings: Any, affine: np.ndarray, tmp_path: Path
) -> None:
    rounded = affine @ np.diag([0.98 / 0.9766, 0.98 / 0.9766, 1, 1])
    study.add("a", label_affine=rounded)
    (finding,) = findings(look(study.folder), "grid-rounded")
    assert finding.severity == "problem"
    assert finding.path == study.label("a")
    assert_put_right(study, look, tmp_path / "copy", study.label("a"))


def test_rounding_that_preprocess_accepts_is_a_note(study: Any, look: Any, findings: Any, affine: np.ndarray) -> None:
    study.add("a", label_affine=np.round(affine, 3))
    (finding,) = findings(look(study.folder), "grid-rounded")
    assert finding.severity == "note"


def test_floating_point_noise_is_nothing(study: Any, look: Any, affine: np.ndarray) -> None:
    study.add("a", label_affine=affine.astype(np.float32).astype(float) * (1 + 1e-7))
    assert look(study.folder).findings == ()


@pytest.mark.parametrize("voxels", [(1, 0, 0), (0, 0, -1), (0.5, 0.5, 0.5), (0.2, 0, 0), (7, -3, 2)])
@pytest.mark.parametrize("at_origin", [False, True])
def test_what_was_moved_gets_the_header_of_its_image_and_is_never_resampled(
    study: Any, look: Any, affine: np.ndarray, tmp_path: Path, voxels: tuple[float, ...], at_origin: bool
) -> None:
    affine = np.diag([1.0, 1, 1, 1]) if at_origin else affine  # as an image whose header says nothing but sizes
    study.add("a", affine=affine, label_affine=shifted(affine, *voxels))
    found = look(study.folder)
    assert [finding.rule for finding in found.problems] == ["grid-differs"]
    assert "--fix" in found.problems[0].to_do
    assert "--like" not in found.problems[0].to_do
    assert_put_right(study, look, tmp_path / "copy", study.label("a"))


def test_a_turned_label_map_gets_the_header_of_its_image(
    study: Any, look: Any, affine: np.ndarray, tmp_path: Path
) -> None:
    angle = np.radians(0.5)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    middle = np.array([12, 10, 6, 1]) @ affine.T
    turned = affine.copy()
    turned[:3, :3] = turn @ affine[:3, :3]
    turned[:3, 3] = middle[:3] - turned[:3, :3] @ (12, 10, 6)
    study.add("a", label_affine=turned)
    assert_put_right(study, look, tmp_path / "copy", study.label("a"))


def test_a_label_map_of_other_voxels_is_not_fixed(study: Any, look: Any, affine: np.ndarray, tmp_path: Path) -> None:
    study.add("a", label_affine=affine @ np.diag([1.2, 1.2, 1, 1]))
    before = study.label("a").read_bytes()
    found = look(study.folder, fix=tmp_path / "copy")
    assert f"medseg export {study.label('a')} -o FILE --like {study.image('a')}" in found.problems[0].to_do
    assert found.fixed.changes == ()
    assert (tmp_path / "copy/labels/a.nii.gz").read_bytes() == before


def test_axes_that_run_another_way_stay_where_the_header_moved_by_a_slip(
    study: Any, look: Any, affine: np.ndarray, shape: Any, tmp_path: Path
) -> None:
    """Its voxels lie in another order than those of its image, as it says: that is believed, unlike its place."""
    flipped = Geometry(shape, affine).oriented_as("RPI").affine
    study.add("a", label_affine=shifted(flipped, 0.5, 0.5, 0.5))
    look(study.folder, fix=tmp_path / "copy")
    there = read_geometry(tmp_path / "copy/labels/a.nii.gz")
    assert there.difference(Geometry(shape, flipped), 1e-4) is None


def test_axes_that_were_lost_are_those_of_the_image(study: Any, look: Any, affine: np.ndarray, tmp_path: Path) -> None:
    """As a program writes that knows voxel sizes and where the first voxel lies, and nothing of directions."""
    bare = np.diag([0.9766, 0.9766, 3.0, 1.0])
    bare[:3, 3] = affine[:3, 3]
    study.add("a", label_affine=bare)
    assert_put_right(study, look, tmp_path / "copy", study.label("a"))


def test_a_label_map_gets_the_codes_of_its_image_too(study: Any, look: Any, tmp_path: Path) -> None:
    """Neither header says where it lies, and programs differ in what they make of that."""
    study.add("a", affine=np.diag([1.0, 1, 2, 1]), label_affine=np.diag([-1.0, -1, 2, 1]))
    without_place(study.image("a"))
    found = look(study.folder, fix=tmp_path / "copy")
    assert [finding.severity for finding in found.fixed.left] == ["warning", "warning"]
    headers = [nibabel.load(tmp_path / "copy" / folder / "a.nii.gz").header for folder in ("images", "labels")]
    for field in (*PLACE_FIELDS, "pixdim"):
        np.testing.assert_array_equal(headers[0][field], headers[1][field])


def test_a_lost_place_comes_back_from_the_image(study: Any, look: Any, findings: Any, tmp_path: Path) -> None:
    study.add("a")
    without_place(study.label("a"))
    found = look(study.folder)
    (finding,) = found.findings  # not told twice, as a header without a place too
    assert (finding.rule, finding.severity, finding.path) == ("lost-place", "problem", study.label("a"))
    assert_put_right(study, look, tmp_path / "copy", study.label("a"))


def test_a_lost_place_comes_back_from_the_label_map(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")
    without_place(study.image("a"))
    assert_put_right(study, look, tmp_path / "copy", study.image("a"))


def test_the_identity_far_from_the_image_is_a_lost_place(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a", label_affine=np.eye(4))
    assert_put_right(study, look, tmp_path / "copy", study.label("a"))


def test_a_place_that_both_lost_is_told_and_left(study: Any, look: Any, tmp_path: Path) -> None:
    study.add("a")
    without_place(study.image("a"))
    without_place(study.label("a"))
    found = look(study.folder, fix=tmp_path / "copy")
    assert [(finding.rule, finding.severity) for finding in found.findings] == [("no-place", "warning")] * 2
    assert found.fixed.changes == ()


def test_a_lost_place_of_other_voxel_sizes_is_not_guessed(
    study: Any, look: Any, findings: Any, affine: np.ndarray
) -> None:
    study.add("a", label_affine=affine @ np.diag([1.2, 1.2, 1, 1]))
    without_place(study.label("a"))
    (finding,) = findings(look(study.folder), "lost-place")
    assert finding.repair is None


@pytest.mark.parametrize(
    ("signs", "sides"), [((-1, -1, 1), "left and right, front and back"), ((-1, 1, 1), "left and right")]
)
def test_a_mirrored_header_is_named(
    study: Any, look: Any, affine: np.ndarray, tmp_path: Path, signs: tuple[int, ...], sides: str
) -> None:
    study.add("a", label_affine=np.diag([*signs, 1.0]) @ affine)
    (finding,) = look(study.folder).problems
    assert finding.rule == "mirrored"
    assert f"{sides} are swapped" in finding.what
    assert "left and right" in finding.to_do
    assert_put_right(study, look, tmp_path / "copy", study.label("a"))


def test_the_header_of_a_pair_is_put_right_and_that_of_analyze_is_not(
    study: Any, look: Any, affine: np.ndarray, tmp_path: Path
) -> None:
    for name, kind in (("a", nibabel.Nifti1Pair), ("b", nibabel.Spm99AnalyzeImage)):
        study.add(name)
        drawn = np.asarray(nibabel.load(study.label(name)).dataobj)
        study.label(name).unlink()
        nibabel.save(kind(drawn, shifted(affine, 1, 0, 0)), study.folder / "labels" / f"{name}.hdr")
    found = look(study.folder, fix=tmp_path / "copy")
    assert {finding.case_id: finding.repair is not None for finding in found.problems} == {"a": True, "b": False}
    assert [finding.case_id for finding in found.fixed.left if finding.severity == "problem"] == ["b"]
    there = read_geometry(tmp_path / "copy" / "labels" / "a.hdr")
    assert there.difference(read_geometry(study.image("a")), 1e-5) is None


def test_axes_in_another_order_are_named(study: Any, look: Any, findings: Any) -> None:
    study.add("a", label_map=np.ones((12, 20, 24), np.uint8))
    (finding,) = findings(look(study.folder), "grid-differs")
    assert "axes are in another order" in finding.what


def test_flipped_storage_on_one_grid_is_nothing(study: Any, look: Any, affine: np.ndarray, shape: Any) -> None:
    flipped = Geometry(shape, affine).oriented_as("RPI").affine
    study.add("a", label_affine=flipped)
    assert look(study.folder).findings == ()
