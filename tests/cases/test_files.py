"""Files that are not DICOM: what each case of the table says is right."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.config import load
from medseg.errors import SourceError
from medseg.io.discover import image_sources
from medseg.io.read import read_volume
from medseg.workflows.inspect import inspect
from medseg.workflows.preprocess import preprocess

ONE_WORKER = load(overrides=["preprocessing.workers=1"])


def test_micrometres_become_mm_as_in_simpleitk(cases_that_go_wrong: Path) -> None:
    path = cases_that_go_wrong / "01_units_micron" / "micron" / "images" / "c0.nii.gz"
    volume, reference = read_volume(path), sitk.ReadImage(path)
    np.testing.assert_allclose(volume.geometry.spacing, reference.GetSpacing(), rtol=1e-6)
    origin = np.array(reference.GetOrigin()) * [-1, -1, 1]
    np.testing.assert_allclose(volume.geometry.affine[:3, 3], origin, rtol=1e-6)


def test_mixed_units_are_one_dataset(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    shutil.copytree(cases_that_go_wrong / "01_units_micron" / "micron", tmp_path / "mixed")
    for folder in ("images", "labels"):
        path = tmp_path / "mixed" / folder / "c0.nii.gz"
        image = nibabel.load(path)
        to_mm = np.diag([0.001, 0.001, 0.001, 1])
        header = image.header.copy()
        header.set_xyzt_units("mm")
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), to_mm @ image.affine, header), path)
    result = preprocess(tmp_path / "mixed", tmp_path / "prepared", config=ONE_WORKER)
    assert result.problems == ()
    spacings = [case.source_grid.geometry.spacing for case in result.record.cases]
    np.testing.assert_allclose(spacings, [spacings[0]] * 4, rtol=1e-6)


def test_2d_nifti_keeps_its_place(cases_that_go_wrong: Path) -> None:
    path = next((cases_that_go_wrong / "02_2d_nifti_z_origin").rglob("pat_slice_003.nii.gz"))
    volume = read_volume(path)
    assert volume.array.shape == (1, 64, 60, 1)
    np.testing.assert_allclose(volume.geometry.affine, nibabel.load(path).affine)


def test_pairs_are_the_images_of_their_label_maps(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    source = cases_that_go_wrong / "10_hdr_img" / "pair"
    found = inspect(source, workers=1)
    assert [case.case.images[0].path.name for case in found.cases] == ["c0.hdr", "c1.hdr", "c2.hdr"]
    assert [case.case.label.path.name for case in found.cases if case.case.label] == [f"c{i}.nii.gz" for i in range(3)]
    assert not found.problems
    for each in image_sources(source / "images").sources:
        np.testing.assert_array_equal(read_volume(each).array[0], np.asarray(nibabel.load(each.path).dataobj))
    result = preprocess(source, tmp_path / "prepared", config=ONE_WORKER)
    assert len(result.record.cases) == 3 and not result.problems


def test_colours_are_named_by_every_command(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    source = cases_that_go_wrong / "14_small" / "a9_rgb"
    (problem,) = inspect(source, workers=1).problems
    assert "holds colours (RGB)" in problem.what and "fourth axis" in problem.to_do
    with pytest.raises(SourceError, match="no case is left"):
        preprocess(source, tmp_path / "prepared", config=ONE_WORKER)
    assert "holds colours (RGB)" in (tmp_path / "prepared" / "problems.csv").read_text()
    with pytest.raises(SourceError, match="holds colours"):  # as 'predict' reads it
        read_volume(source / "images" / "c0.nii.gz")


def test_photographs_lie_on_their_label_maps(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    source = cases_that_go_wrong / "09_exif" / "exif3"
    found = inspect(source, workers=1)
    assert {finding.rule for finding in found.findings if finding.severity != "problem"} >= {"turned"}
    for label in sorted((source / "labels").iterdir()):
        drawn = read_volume(label).label_map > 0
        image = read_volume(source / "images" / f"{label.stem}.jpg").array[0].astype(float)
        turned = np.flip(image, (0, 1))
        difference, otherwise = (abs(each[drawn].mean() - each[~drawn].mean()) for each in (image, turned))
        assert difference > 2 * otherwise
