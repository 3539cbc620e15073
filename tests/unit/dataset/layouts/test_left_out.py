"""What no layout took, and label maps among images."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medseg.dataset.layouts import find_cases
from medseg.dataset.layouts.left_out import suggested_patterns
from medseg.workflows.inspect import inspect

WriteImage = Callable[..., Path]
SHAPE = (6, 5, 4)


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)


def label_map() -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[1:3, 1:3], drawn[3, 3] = 1, 2
    return drawn


def test_label_maps_in_a_layout_of_ones_own_are_named_with_patterns(tmp_path: Path, write_image: WriteImage) -> None:
    for n in (1, 2, 3):
        write_image(tmp_path / "scans of 2020" / f"X{n}" / "brain.nii.gz", image())
        write_image(tmp_path / "drawn" / "by me" / f"X{n}.nii.gz", label_map())
    found = find_cases(tmp_path)
    (doubt,) = found.doubts
    assert "3 of 6 images may be label maps" in doubt and "drawn/by me/X1.nii.gz" in doubt
    images, labels = doubt.split("'")[1], doubt.split("'")[3]
    assert (images, labels) == ("scans of 2020/{case}/brain.nii.gz", "drawn/by me/{case}.nii.gz")
    paired = find_cases(tmp_path, images=images, labels=labels)
    assert len(paired.cases) == 3 and all(case.label for case in paired.cases) and not paired.doubts
    assert find_cases(tmp_path, labelled=False).doubts == found.doubts
    (finding,) = [each for each in inspect(tmp_path, workers=1).findings if each.rule == "label-maps-among-images"]
    assert finding.severity == "warning" and "--labels" in finding.to_do


def test_names_alone_are_enough(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.nii.gz", image())
    write_image(tmp_path / "b_mask.nii.gz", image())
    (doubt,) = find_cases(tmp_path).doubts
    assert "1 of 2 images may be label maps" in doubt and "b_mask.nii.gz" in doubt


def test_only_label_maps(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.nii.gz", label_map())
    write_image(tmp_path / "b.nii.gz", label_map())
    (doubt,) = find_cases(tmp_path).doubts
    assert "all 2 images may be label maps" in doubt and "give a folder that holds their images too" in doubt


def test_label_maps_beside_one_odd_file_are_no_structures_of_it(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("a", "c"):
        write_image(tmp_path / f"{name}.nii.gz", label_map())
    (tmp_path / "b.nii.gz").write_bytes(b"no image")
    assert not any(case.label for case in find_cases(tmp_path).cases)


@pytest.mark.parametrize("value", [-1000, 0, 7])
def test_images_of_one_value_are_no_label_maps(tmp_path: Path, write_image: WriteImage, value: int) -> None:
    write_image(tmp_path / "air.nii.gz", np.full(SHAPE, value, np.int16))
    assert not find_cases(tmp_path).doubts


def test_binary_photographs_are_taken_and_only_said(tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / f"{name}.png")
    found = find_cases(tmp_path)
    assert [case.case_id for case in found.cases] == ["a", "b"]
    assert not found.problems and len(found.doubts) == 1


def test_large_images_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0).integers(0, 2, (80, 80, 80)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(random, np.eye(4)), tmp_path / "noise.nii.gz")
    monkeypatch.setattr("medseg.dataset.layouts.label_map_guess.read_volume", None)
    assert not find_cases(tmp_path).doubts


def test_files_that_no_case_has_are_counted_by_kind(tmp_path: Path, write_image: WriteImage) -> None:
    for n in (1, 2):
        write_image(tmp_path / "images" / f"a{n}.nii.gz", image())
        write_image(tmp_path / "labels" / f"a{n}.nii.gz", label_map())
        write_image(tmp_path / "masks of raters" / f"a{n}_rater_mask.nii.gz", label_map())
    write_image(tmp_path / "atlas.nii.gz", image())
    found = find_cases(tmp_path)
    assert len(found.cases) == 2 and not found.problems
    assert found.notes[-1] == (
        "taken for no case, left out: 2 files named like label maps (masks of raters/a*_rater_mask.nii.gz), 1 image "
        "(atlas.nii.gz)"
    )


def test_patterns_for_structures_of_a_case() -> None:
    images = ["scans/p01.nii.gz", "scans/p02.nii.gz"]
    labels = [f"drawn/p0{n}-{name}.nii.gz" for n in (1, 2) for name in ("liver", "spleen")]
    assert suggested_patterns(images, labels) == ("scans/{case}.nii.gz", "drawn/{case}-{structure}.nii.gz")
    assert suggested_patterns(["a.nii"], ["b.nii"]) is None
    assert suggested_patterns(
        ["sub-01/anat/sub-01_T1w.nii.gz"], ["derivatives/sub-01/anat/sub-01_label-lesion_mask.nii.gz"]
    ) == ("sub-{case}/anat/sub-{case}_T1w.nii.gz", "derivatives/sub-{case}/anat/sub-{case}_label-lesion_mask.nii.gz")
