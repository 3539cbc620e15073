"""Masks: what each case of the table says is right."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from model_records import record_of
from pydicom import dcmread

import medseg
from medseg.architecture import Architecture
from medseg.errors import SourceError
from medseg.inferers.model import save_model
from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, write_mask
from medseg.io.read import read_geometry, read_volume
from medseg.labels import Labels
from medseg.networks.fitting import Fitted
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.workflows.export import export

HOW = {"device": "cpu", "backend": "torch"}


@pytest.fixture
def model(tiny_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Says 1 of voxels above 120."""
    architecture = Architecture(
        name="unet", features=(1,), strides=((1, 1, 1),), kernel_sizes=((1, 1, 1),), convolutions_per_stage=1
    )
    plan = tiny_plan.model_copy(update={"architecture": architecture})
    labels = Labels.from_names({"bright": 1})
    record = record_of(plan, labels, ("x",))
    save_model(tmp_path / "model", record, build_network(1, 2, architecture).state_dict())

    def forward(_: Fitted, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), image - 120], dim=1)

    monkeypatch.setattr(Fitted, "forward", forward)
    return tmp_path / "model"


def in_one_place(mask: Path, image: Path) -> None:
    """As nibabel and as ITK see them."""
    ours, theirs = nibabel.load(mask), nibabel.load(image)
    assert ours.shape == theirs.shape
    assert ours.header.get_xyzt_units()[0] == theirs.header.get_xyzt_units()[0]
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    read, source = sitk.ReadImage(mask), sitk.ReadImage(image)
    for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(read, place)() == getattr(source, place)()


def test_masks_of_an_enhanced_mr_lie_where_simpleitk_sees_it(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    """Its private sequences say other positions: a mask that follows these gets no certificate."""
    path = cases_that_go_wrong / "philips_enhanced_half_pixel" / "enhanced.dcm"
    source, image = source_of(path), sitk.ReadImage(path)
    grid = read_geometry(source)
    label_map = np.zeros(grid.shape, np.uint8)
    label_map[3:9, 4:8, 1:3] = 1
    mask = LabelMapVolume(label_map, grid, Labels.from_names({"a": 1}), source)
    for name in ("nifti", "seg-nrrd", "dicom-seg", "dicom-seg-grid", "rtstruct"):
        written = write_mask(FORMATS[name], FORMATS[name].path(tmp_path, "case"), mask)
        assert written.certificate.max_distance_mm < 1e-3
    expected = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    np.testing.assert_allclose(sitk.ReadImage(tmp_path / "case.nii.gz").GetOrigin(), expected, atol=1e-4)
    seg = dcmread(tmp_path / "case.seg.dcm")
    corner = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    np.testing.assert_allclose(corner[:2], expected[:2], atol=1e-3)


def test_masks_carry_micrometres(cases_that_go_wrong: Path, model: Path, tmp_path: Path) -> None:
    images = cases_that_go_wrong / "01_units_micron" / "micron" / "images"
    result = medseg.predict(model, images, tmp_path / "masks", formats=["nifti", "nifti-per-label", "seg-nrrd"], **HOW)
    assert not result.problems and len(result.predictions) == 4
    for prediction in result:
        in_one_place(tmp_path / "masks" / f"{prediction.case_id}.nii.gz", prediction.source)
        in_one_place(tmp_path / "masks" / prediction.case_id / "bright.nii.gz", prediction.source)
        in_slicer = sitk.ReadImage(tmp_path / "masks" / f"{prediction.case_id}.seg.nrrd")
        np.testing.assert_allclose(in_slicer.GetSpacing(), sitk.ReadImage(prediction.source).GetSpacing(), rtol=1e-5)


def test_labels_in_micrometres_are_exported_in_mm(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    folder = cases_that_go_wrong / "01_units_micron" / "micron"
    label, image = folder / "labels" / "c1.nii.gz", folder / "images" / "c1.nii.gz"
    for name in ("mask.seg.nrrd", "mask.nii.gz"):
        assert export(label, tmp_path / name, like=image).certificate.passed
    np.testing.assert_allclose(
        sitk.ReadImage(tmp_path / "mask.seg.nrrd").GetSpacing(), sitk.ReadImage(image).GetSpacing(), rtol=1e-5
    )
    in_one_place(tmp_path / "mask.nii.gz", image)


def test_2d_nifti_stays_2d(cases_that_go_wrong: Path, model: Path, tmp_path: Path) -> None:
    (folder,) = (cases_that_go_wrong / "02_2d_nifti_z_origin").iterdir()
    result = medseg.predict(model, folder / "images", tmp_path / "masks", **HOW)
    assert not result.problems and len(result.predictions) == 6
    for prediction in result:
        assert prediction.path is not None
        in_one_place(prediction.path, prediction.source)
    label, image = (folder / name / "pat_slice_003.nii.gz" for name in ("labels", "images"))
    assert export(label, tmp_path / "mask.nii.gz", like=image).certificate.passed
    in_one_place(tmp_path / "mask.nii.gz", image)
    assert export(label, tmp_path / "mask.seg.nrrd", like=image).certificate.passed


def test_one_of_two_times_is_chosen(cases_that_go_wrong: Path, model: Path, tmp_path: Path) -> None:
    path = shutil.copy(cases_that_go_wrong / "14_small" / "twotimes.nii.gz", tmp_path / "twotimes.nii.gz")
    with pytest.raises(SourceError, match=r"choose one by its path, .*twotimes\.nii\.gz/volume-1 to volume-2"):
        medseg.predict(model, path, tmp_path / "masks", **HOW)
    (prediction,) = medseg.predict(model, path / "volume-2", tmp_path / "mask.nii.gz", **HOW)
    assert prediction.path == tmp_path / "mask.nii.gz"
    assert nibabel.load(prediction.path).shape == nibabel.load(path).shape[:3]
    assert read_volume(path / "volume-2").array.shape[0] == 1
