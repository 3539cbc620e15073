"""Label maps of every format, found beside their images, arrive in the prepared dataset where they were drawn."""

import csv
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_drawn import write_rtstruct
from drawn_study import CORNER, SERIES, contour, drawn, write_contours, write_frames, write_itk, write_seg_nrrd

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.workflows.preprocess import PreprocessResult, preprocess


def prepared(source: Path, output: Path, **options: object) -> PreprocessResult:
    return preprocess(source, output, config=load(overrides=["preprocessing.workers=1"]), **options)


def written_label(result: PreprocessResult) -> np.ndarray:
    """The label map of the only case on the axes of the series, by nibabel."""
    (case,) = result.record.cases
    path = PreparedDataset(result.folder).label_path(case.case_id)
    assert path.is_relative_to(result.folder / "labels")
    image = nibabel.as_closest_canonical(nibabel.load(path))
    assert np.allclose(image.affine[:3, 3], (-(CORNER[0] + 9 * 2), -(CORNER[1] + 11 * 2), 7), atol=1e-4)
    return np.asanyarray(image.dataobj)[::-1, ::-1]  # x and y are those of LPS again


@pytest.mark.parametrize("name", ["CT_seg.nii.gz", "CT_mask.nrrd", "CT_label.mha", "CT_seg.mhd"])
def test_label_maps_by_name_stay_where_they_are(ct: Path, tmp_path: Path, name: str) -> None:
    path = write_itk(ct / name)
    result = prepared(ct, tmp_path / "prepared")
    (case,) = result.record.cases
    assert case.label == str(path) and result.record.labels is not None
    assert case.volumes_ml == {"label_1": pytest.approx(68 * 0.012), "label_2": pytest.approx(4 * 0.012)}


def test_segments_of_3d_slicer(ct: Path, tmp_path: Path) -> None:
    write_seg_nrrd(ct / "CT.seg.nrrd")
    result = prepared(ct, tmp_path / "prepared")
    assert result.record.labels is not None and result.record.labels.names == ["liver", "tumour"]
    np.testing.assert_array_equal(written_label(result), drawn())


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_dicom_seg(ct: Path, tmp_path: Path, kind: str) -> None:
    write_frames(ct / "seg.dcm", kind)
    result = prepared(ct, tmp_path / "prepared")
    assert result.record.labels is not None and result.record.labels.names == ["liver", "tumour"]
    np.testing.assert_array_equal(written_label(result), drawn())


def test_rtstruct(ct: Path, tmp_path: Path) -> None:
    write_contours(ct / "plan.dcm")
    result = prepared(ct, tmp_path / "prepared", rename={"GTV*": "tumour"})
    assert result.record.labels is not None and result.record.labels.names == ["Liver", "tumour"]
    np.testing.assert_array_equal(written_label(result), drawn())


def test_an_archive_in_a_folder(ct: Path, tmp_path: Path) -> None:
    write_contours(ct / "plan.dcm")
    shutil.make_archive(str(tmp_path / "export" / "P1"), "gztar", ct)
    result = prepared(tmp_path / "export", tmp_path / "prepared")
    np.testing.assert_array_equal(written_label(result), drawn())
    (case,) = result.record.cases
    assert case.case_id == "P1_CT" and case.images == ("nifti/P1_CT.nii.gz",)


def test_what_no_slice_holds_is_told_and_the_rest_prepared(ct: Path, tmp_path: Path) -> None:
    mask = drawn()[:, :, 1] > 0
    write_rtstruct(ct / "plan.dcm", {"liver": [contour(mask, 1)]}, referenced_series=SERIES)
    write_rtstruct(ct / "beyond.dcm", {"spleen": [contour(mask, 40)]}, referenced_series="7.7")
    result = prepared(ct, tmp_path / "prepared")
    (problem,) = result.problems
    assert problem.path.name == "beyond.dcm" and "no image series that is here" in problem.message
    with (tmp_path / "prepared" / "problems.csv").open() as table:
        assert [Path(row["path"]).name for row in csv.DictReader(table)] == ["beyond.dcm"]
    assert len(result.record.cases) == 1


@pytest.mark.slow
def test_real_contours_are_the_masks_that_were_drawn(real_data: Path, tmp_path: Path) -> None:
    result = prepared(real_data / "sarcoma" / "dicom", tmp_path, rename={"GTV*": "tumour"})
    assert len(result.record.cases) == 9 and not result.problems
    for case in result.record.cases:
        patient, kind = case.case_id[:7], case.case_id[8:].removesuffix("_image")
        ours = nibabel.as_closest_canonical(nibabel.load(tmp_path / (case.label or "")))
        theirs = nibabel.load(real_data / "sarcoma" / "nifti" / patient / f"{kind}_mask.nii.gz")
        theirs = nibabel.as_closest_canonical(theirs)
        np.testing.assert_array_equal(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))
        assert np.abs(ours.affine - theirs.affine).max() < 1e-3


@pytest.mark.parametrize(
    ("image", "segmentation", "reference"),
    [
        ("ct-3slice", "liver.dcm", "liver_seg.nrrd"),
        ("23x38x3/image", "23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd"),
        ("24x38x3/image", "24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd"),
        ("24x38x3/image", "sparse-labelmap-ppv5.dcm", "sparse_labelmap_ppv5_seg.nrrd"),
        ("24x38x3/image", "sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd"),
    ],
)
def test_real_segmentations_are_those_that_dcmqi_reads(
    real_data: Path, tmp_path: Path, image: str, segmentation: str, reference: str
) -> None:
    folder = real_data / "dicom_seg" / "segmentations"
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "image").symlink_to(folder / image)
    (tmp_path / "study" / "seg").symlink_to(folder / segmentation)
    result = prepared(tmp_path / "study", tmp_path / "prepared")
    (case,) = result.record.cases
    ours = sitk.ReadImage(str(tmp_path / "prepared" / (case.label or "")))
    theirs = sitk.ReadImage(str(folder / reference))
    theirs = sitk.Resample(theirs, ours, sitk.Transform(), sitk.sitkNearestNeighbor, 0, ours.GetPixelID())
    liver = sitk.GetArrayFromImage(theirs) == 1  # 5 is background, as the label map's PixelPaddingValue says
    assert liver.any()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), liver)
