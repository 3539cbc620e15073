"""Masks of a NIfTI image are written with its own conventions: nibabel and ITK see mask and image in one place."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.io.read import read_geometry
from medseg.labels import Labels

UNITS = {"mm": 1.0, "micron": 0.001, "meter": 1000.0, "unknown": 1.0}  # in mm
AFFINE = np.array([[0.9, 0, 0, -20], [0, 1.2, 0, 31], [0, 0, 2.5, 10], [0, 0, 0, 1]])  # mm


def masked(path: Path, shape: tuple[int, ...], unit: str) -> LabelMapVolume:
    """An image, written by nibabel, and a mask on it."""
    image = nibabel.Nifti1Image(np.zeros(shape, np.int16), np.diag([1 / UNITS[unit]] * 3 + [1]) @ AFFINE)
    image.header.set_xyzt_units(unit, "sec")
    nibabel.save(image, path)
    source = source_of(path)
    label_map = np.zeros((*shape, 1)[:3], np.uint8)
    label_map[2:7, 1:5], label_map[4:6, 3:5] = 1, 2
    return LabelMapVolume(label_map, read_geometry(source), Labels.from_names({"liver": 1, "cyst": 2}), source)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("shape", [(12, 10, 8), (12, 10, 1), (12, 10)])
def test_nifti_keeps_unit_and_dimensions(unit: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    mask = masked(tmp_path / "image.nii.gz", shape, unit)
    np.testing.assert_allclose(mask.geometry.affine, AFFINE, rtol=1e-6)
    for name in ("nifti", "nifti-per-label"):
        written = write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), mask)
        image, ours = (nibabel.load(path) for path in (tmp_path / "image.nii.gz", written.files[0]))
        assert ours.shape == image.shape
        assert ours.header.get_xyzt_units() == (unit, "unknown")
        np.testing.assert_array_equal(ours.affine, image.affine)
        image, ours = (sitk.ReadImage(path) for path in (tmp_path / "image.nii.gz", written.files[0]))
        for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(ours, place)() == getattr(image, place)()


@pytest.mark.parametrize("unit", UNITS)
def test_other_formats_are_in_mm(unit: str, tmp_path: Path) -> None:
    mask = masked(tmp_path / "image.nii.gz", (12, 10, 8), unit)
    write_mask(FORMATS["seg-nrrd"], tmp_path / "case.seg.nrrd", mask)
    image = sitk.ReadImage(tmp_path / "case.seg.nrrd")
    np.testing.assert_allclose(image.GetSpacing(), (0.9, 1.2, 2.5), rtol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), (20, -31, 10), rtol=1e-6)


def test_a_sheared_image_in_micrometres(tmp_path: Path) -> None:
    """Which SimpleITK doesn't read."""
    affine = AFFINE.copy()
    affine[1, 2] = 0.9
    image = nibabel.Nifti1Image(np.zeros((12, 10, 8), np.int16), np.diag([1000, 1000, 1000, 1]) @ affine)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "image.nii.gz")
    source = source_of(tmp_path / "image.nii.gz")
    label_map = np.zeros((12, 10, 8), np.uint8)
    label_map[2:7, 1:5, 2:4] = 1
    mask = LabelMapVolume(label_map, read_geometry(source), Labels.from_names({"liver": 1}), source)
    assert write_mask(FORMATS["nifti"], tmp_path / "mask.nii.gz", mask).certificate.passed
