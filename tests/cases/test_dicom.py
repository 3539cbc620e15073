"""DICOM: what each case of the table says is right."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.config import load
from medseg.errors import GeometryError
from medseg.io.dicom.series import read_dicom, source_planes
from medseg.io.discover import image_sources
from medseg.io.source import ImageSource
from medseg.workflows.inspect import inspect
from medseg.workflows.preprocess import preprocess

WriteSlices = Callable[..., list[Path]]

ONE_WORKER = load(overrides=["preprocessing.workers=1"])


def by_simpleitk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (x, y, z) and origin in RAS."""
    image = sitk.ReadImage(path)
    return sitk.GetArrayFromImage(image).T, np.array(image.GetOrigin()) * (-1, -1, 1)


def the_source(folder: Path) -> ImageSource:
    found = image_sources(folder)
    assert found.problems == ()
    (source,) = found.sources
    return source


def test_an_enhanced_object_lies_where_its_standard_attributes_say(cases_that_go_wrong: Path) -> None:
    folder = cases_that_go_wrong / "philips_enhanced_half_pixel"
    volume = read_dicom(the_source(folder))
    expected, origin = by_simpleitk(folder / "enhanced.dcm")
    assert volume.geometry.affine[0, 3] == pytest.approx(127.243, abs=1e-3)
    np.testing.assert_allclose(volume.geometry.affine[:3, 3], origin, atol=1e-3)
    np.testing.assert_allclose(volume.array[0], expected, rtol=1e-6)


def test_one_sop_instance_uid_for_all_slices(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    folder = cases_that_go_wrong / "constant_sop_uid"
    found = image_sources(folder)
    assert sorted(source.part for source in found.sources) == ["b-400", "b-50", "b-800"]
    for source in found.sources:
        assert "9 slices share a SOPInstanceUID" in source.notes[0]
        expected = [by_simpleitk(path)[0][..., 0] for path in source.files]
        np.testing.assert_array_equal(np.moveaxis(read_dicom(source).array[0], -1, 0), expected)
    assert len(preprocess(folder, tmp_path / "prepared", config=ONE_WORKER).record.cases) == 3


def test_a_study_uid_for_each_slice(cases_that_go_wrong: Path) -> None:
    source = the_source(cases_that_go_wrong / "study_uid_per_slice")
    assert read_dicom(source).geometry.shape == (100, 50, 3)
    assert "StudyInstanceUID changes within the series (3 values)" in source.notes[0]


def test_malformed_headers_cost_their_files_alone(
    cases_that_go_wrong: Path, tmp_path: Path, write_slices: WriteSlices
) -> None:
    shutil.copytree(cases_that_go_wrong / "header_crash", tmp_path / "data" / "bad")
    write_slices(tmp_path / "data" / "good", np.zeros((5, 9, 8), dtype=np.int16))
    lines = [finding.what for finding in inspect(tmp_path / "data", workers=1).problems]
    assert lines == [
        "ImageOrientationPatient in its header should be 6 numbers, but is '1\\2'",
        "NumberOfFrames in its header should be a number, but is 'abc'",
    ]
    result = preprocess(tmp_path / "data", tmp_path / "prepared", config=ONE_WORKER)
    assert len(result.record.cases) == 1
    assert len(result.problems) == 2


def test_spectroscopy_is_no_image_and_no_problem(
    cases_that_go_wrong: Path, tmp_path: Path, write_slices: WriteSlices
) -> None:
    shutil.copytree(cases_that_go_wrong / "mr_spectroscopy_taken_as_image", tmp_path / "data" / "mrs")
    write_slices(tmp_path / "data" / "mr", np.zeros((5, 9, 8), dtype=np.int16))
    inspection = inspect(tmp_path / "data", workers=1)
    assert inspection.problems == ()
    assert any("MR Spectroscopy (no image)" in finding.what for finding in inspection.findings)
    result = preprocess(tmp_path / "data", tmp_path / "prepared", config=ONE_WORKER)
    assert (len(result.record.cases), result.problems) == (1, ())


def test_jpeg_extended_of_twelve_bits(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    folder = cases_that_go_wrong / "jpeg_extended_12bit"
    volume = read_dicom(the_source(folder))
    assert volume.array.max() == 3970
    np.testing.assert_array_equal(volume.array[0], by_simpleitk(folder / "MR1_JPLY.dcm")[0])
    assert preprocess(folder, tmp_path / "prepared", config=ONE_WORKER).problems == ()


def test_radiographs_are_2d_images(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    folder = cases_that_go_wrong / "15_xray_dicom"
    found = image_sources(folder)
    assert (len(found.sources), found.problems) == (3, ())
    for source in found.sources:
        volume = read_dicom(source)
        expected, origin = by_simpleitk(source.files[0])
        np.testing.assert_array_equal(volume.array[0], expected)
        np.testing.assert_allclose(volume.geometry.affine, np.diag([-1, -1, 1, 1]))
        np.testing.assert_allclose(origin, 0)
        with pytest.raises(GeometryError, match="an X-ray projection has no place in the patient.*choose nifti"):
            source_planes(source)
    assert inspect(folder, workers=1).problems == ()
    result = preprocess(folder, tmp_path / "prepared", config=ONE_WORKER)
    assert [tuple(case.source_grid.shape) for case in result.record.cases] == [(64, 60, 1)] * 3
