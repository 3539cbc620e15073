"""Paths that go on inside: one volume of several, and what lies in archives."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.dataset.layouts import find_cases
from medseg.errors import ConfigError, SourceError
from medseg.io.discover import image_sources, source_of
from medseg.io.read import read_geometry, read_volume

WriteSlices = Callable[..., list[Path]]


@pytest.fixture
def times(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A NIfTI file of eleven time points."""
    array = np.random.default_rng(0).integers(0, 99, (5, 4, 3, 11)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2, 3, 1])), tmp_path / "times.nii.gz")
    return tmp_path / "times.nii.gz", array


def test_a_volume_of_a_nifti_file(times: tuple[Path, np.ndarray]) -> None:
    path, array = times
    source = source_of(path / "volume-03")
    assert (source.part, source.path) == ("volume-03", path)
    np.testing.assert_array_equal(read_volume(source).array, array[None, ..., 2])
    np.testing.assert_array_equal(read_volume(str(path / "volume-11")).array[0], array[..., 10])
    assert read_geometry(path / "volume-03").difference(read_geometry(path)) is None
    (case,) = find_cases(path / "volume-03").cases
    assert case.case_id == "times_volume-03"


def test_a_volume_of_an_nrrd_file(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((3, 4, 5, 2)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), tmp_path / "two.nrrd")
    np.testing.assert_array_equal(read_volume(tmp_path / "two.nrrd" / "volume-2").array[0], array[..., 1].T)


def test_a_volume_of_a_series(tmp_path: Path, write_slices: WriteSlices) -> None:
    stored = np.random.default_rng(0).integers(0, 900, (6, 7, 8), dtype=np.int16)
    write_slices(tmp_path / "series" / "a", stored[:3], uids=("P", "1.2", "1.3"), EchoTime=10)
    write_slices(tmp_path / "series" / "b", stored[3:], uids=("P", "1.2", "1.3"), EchoTime=90)
    source = source_of(tmp_path / "series" / "echo-90")
    np.testing.assert_array_equal(read_volume(source).array[0].T, stored[3:])
    (case,) = find_cases(tmp_path / "series" / "echo-90").cases
    assert case.case_id == "series_b_echo-90"
    with pytest.raises(SourceError, match="holds 2 images, name one of them: a/echo-10 .*; b/echo-90 "):
        source_of(tmp_path / "series")
    with pytest.raises(SourceError, match=r"echo-11: there is no such volume; .*series holds echo-10, echo-90"):
        source_of(tmp_path / "series" / "echo-11")


def test_volumes_that_are_not_there(times: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, _ = times
    with pytest.raises(SourceError, match="volume-3: there is no such volume; .*times.nii.gz holds volume-01, volume"):
        image_sources(path / "volume-3")
    for missing in (path / "other", tmp_path / "nowhere", tmp_path / "no" / "where.nii.gz"):
        with pytest.raises(SourceError, match=f"{missing.name}: there is no such file or folder"):
            image_sources(missing)


def test_globs_choose_a_volume_of_each_file(times: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    _, array = times
    nibabel.save(nibabel.Nifti1Image(array[..., 0], np.eye(4)), tmp_path / "one.nii.gz")
    (case,) = find_cases(tmp_path, images="**/volume-02").cases
    assert (case.case_id, case.images[0].frames) == ("times", (1,))
    with pytest.raises(ConfigError, match=r"matches volume-01, volume-02, .* of .*times\.nii\.gz; name one"):
        find_cases(tmp_path, images="**/volume-0*")
    (case,) = find_cases(tmp_path, images=["early=*/volume-01", "late=*/volume-11"]).cases
    assert [image.frames for image in case.images] == [(0,), (10,)]


def test_a_path_goes_on_in_archives(times: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, array = times
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as packed:
        packed.write(path, "inner/times.nii.gz")
    inside = tmp_path / "study.zip" / "inner" / "times.nii.gz"
    assert read_volume(inside).array.shape[0] == 11
    np.testing.assert_array_equal(read_volume(inside / "volume-02").array[0], array[..., 1])
    (case,) = find_cases(inside).cases
    assert case.case_id == "times"
    with pytest.raises(SourceError, match=r"study\.zip/other: there is no such file or folder"):
        image_sources(tmp_path / "study.zip" / "other")
