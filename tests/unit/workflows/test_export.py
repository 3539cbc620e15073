import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.errors import GeometryError, LabelError, OutputError, SourceError
from medseg.io.nifti.writer import write_nifti
from medseg.io.read import read_geometry
from medseg.labels import Labels
from medseg.volume import Array, Geometry, Volume
from medseg.workflows.export import export

SHAPE = (12, 14, 10)


def oblique(shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = (1.0, 1.5, 2.5)) -> Geometry:
    """A grid turned by 0.3 about the z axis, and away from the origin."""
    cos, sin = np.cos(0.3), np.sin(0.3)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ np.diag(spacing)
    affine[:3, 3] = -20, 35, 110
    return Geometry(shape, affine)


def structures(shape: tuple[int, int, int] = SHAPE) -> Array:
    label_map = np.zeros(shape, np.uint8)
    label_map[2:6, 3:9, 2:7] = 2
    label_map[7:10, 5:11, 4:9] = 5
    return label_map


def written(path: Path, volume: Volume) -> Path:
    write_nifti(path, volume.array, volume.geometry)
    return path


def world_points(path: Path, value: int) -> set[tuple[float, ...]]:
    """Where SimpleITK sees the voxels of that value, in LPS mm."""
    image = SimpleITK.ReadImage(str(path))
    indices = np.argwhere(SimpleITK.GetArrayFromImage(image) == value)[:, ::-1]
    points = [image.TransformIndexToPhysicalPoint([int(i) for i in index]) for index in indices]
    return {tuple(round(float(x), 2) for x in point) for point in points}


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR"])
def test_flipped_axes_are_undone_exactly(tmp_path: Path, orientation: str) -> None:
    mask = Volume(structures()[None], oblique())
    path = written(tmp_path / "mask.nii.gz", mask)
    study = written(
        tmp_path / "study.nii.gz", Volume(np.zeros((1, *SHAPE), np.int16), oblique()).oriented_as(orientation)
    )
    (output,) = export(path, tmp_path / "out.nii.gz", like=study).files
    image = SimpleITK.ReadImage(str(output))
    expected = SimpleITK.ReadImage(str(study))
    assert image.GetSize() == expected.GetSize()
    np.testing.assert_allclose(image.GetDirection(), expected.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), expected.GetOrigin(), atol=1e-4)
    for value, n in ((2, 4 * 6 * 5), (5, 3 * 6 * 5)):
        points = world_points(output, value)
        assert len(points) == n
        assert points == world_points(path, value)


def test_another_grid_is_resampled_as_simpleitk_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    shape = (30, 25, 12)
    affine = np.diag([-0.83, 0.91, 2.2, 1.0])
    affine[:3, 3] = -8.0, 34.3, 107.1
    study = written(tmp_path / "study.nii.gz", Volume(np.zeros((1, *shape), np.int16), Geometry(shape, affine)))
    (output,) = export(mask, tmp_path / "out.nii.gz", like=study).files
    assert "lies on another grid" in " ".join(capsys.readouterr().err.split())
    reader = SimpleITK.ReadImage
    expected = SimpleITK.Resample(
        reader(str(mask)), reader(str(study)), SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor
    )
    found = SimpleITK.GetArrayFromImage(reader(str(output)))
    assert set(np.unique(found)) == {0, 2, 5}
    # Points that lie on the border of two voxels may fall to either.
    assert (found != SimpleITK.GetArrayFromImage(expected)).mean() < 1e-3


def test_each_label_has_its_file_named_after_it(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    labels = Labels.from_names({"left kidney": 2, "spleen": 5, "cyst": 7})
    (tmp_path / "predictions.json").write_text(json.dumps({"labels": labels.model_dump(mode="json")}))
    paths = export(mask, tmp_path / "parts", format="nifti-per-label").files
    assert [path.name for path in paths] == ["left_kidney.nii.gz", "spleen.nii.gz", "cyst.nii.gz"]
    parts = [np.asarray(nibabel.load(path).dataobj) for path in paths]
    assert np.array_equal(parts[0], structures() == 2)
    assert np.array_equal(parts[1], structures() == 5)
    assert not parts[2].any()


def test_labels_without_names_are_named_by_value(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    paths = export(mask, tmp_path / "parts", format="nifti-per-label").files
    assert [path.name for path in paths] == ["label_2.nii.gz", "label_5.nii.gz"]


def test_names_that_make_one_file_name_are_told_apart(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    labels = Labels.from_names({"node a": 2, "node/a": 5})
    paths = export(mask, tmp_path / "parts", format="nifti-per-label", labels=labels).files
    assert [path.name for path in paths] == ["node_a_2.nii.gz", "node_a_5.nii.gz", "names.json"]


def test_a_mask_of_floats_becomes_integers(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None].astype(np.float32), oblique()))
    (output,) = export(mask, tmp_path / "out.nii.gz").files
    assert nibabel.load(output).get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(nibabel.load(output).dataobj), structures())


def test_a_mask_of_another_patient_is_refused(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    affine = oblique().affine.copy()
    affine[:3, 3] += 500
    study = written(tmp_path / "study.nii.gz", Volume(np.zeros((1, *SHAPE), np.int16), Geometry(SHAPE, affine)))
    with pytest.raises(GeometryError, match=r"mask\.nii\.gz lies inside"):
        export(mask, tmp_path / "out.nii.gz", like=study)
    assert not (tmp_path / "out.nii.gz").exists()


def test_what_is_no_label_map_is_refused(tmp_path: Path) -> None:
    image = written(tmp_path / "image.nii.gz", Volume(structures()[None] + np.float32(0.5), oblique()))
    with pytest.raises(LabelError, match="not whole numbers"):
        export(image, tmp_path / "out.nii.gz")
    two = written(tmp_path / "two.nii.gz", Volume(np.stack([structures(), structures() + 1]), oblique()))
    with pytest.raises(LabelError, match="2 channels"):
        export(two, tmp_path / "out.nii.gz")


def test_values_without_a_name_are_refused(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    with pytest.raises(LabelError, match=r"mask\.nii\.gz: label values \[5\]"):
        export(mask, tmp_path / "parts", format="nifti-per-label", labels=Labels.from_names({"liver": 2}))


def test_a_file_name_that_is_no_nifti_is_refused(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    with pytest.raises(OutputError, match=r"\.nii\.gz"):
        export(mask, tmp_path / "out.mha")


def test_one_file_for_several_labels_is_refused(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    with pytest.raises(OutputError, match="give a folder"):
        export(mask, tmp_path / "out.nii.gz", format="nifti-per-label")
    assert not (tmp_path / "out.nii.gz").exists()


def test_mask_on_the_grid_of_a_dicom_series(real_data: Path, tmp_path: Path) -> None:
    """A mask in RAS order comes back on the grid on which SimpleITK reads the series."""
    series = real_data / "dicom_studies" / "hippocampus_study" / "13_HCropVolume"
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    drawn = SimpleITK.GetArrayFromImage(image)
    drawn = (drawn > np.percentile(drawn, 95)).astype(np.uint8)
    mask_image = SimpleITK.GetImageFromArray(drawn)
    mask_image.CopyInformation(image)
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(mask_image, "LPS"), str(tmp_path / "mask.nii.gz"))
    (output,) = export(tmp_path / "mask.nii.gz", tmp_path / "out.nii.gz", like=series).files
    result = SimpleITK.ReadImage(str(output))
    assert result.GetSize() == image.GetSize()
    np.testing.assert_allclose(result.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(result.GetDirection(), image.GetDirection(), atol=1e-6)
    assert np.array_equal(SimpleITK.GetArrayFromImage(result), drawn)


def test_a_study_of_several_series_is_refused_and_they_are_listed(real_data: Path, tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    with pytest.raises(SourceError, match="13_HCropVolume"):
        export(mask, tmp_path / "out.nii.gz", like=real_data / "dicom_studies" / "hippocampus_study")


def test_command_prints_what_it_wrote(tmp_path: Path) -> None:
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    arguments = ["export", str(mask), "-o", str(tmp_path / "parts"), "--like", str(mask), "--per-label"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert paths == [tmp_path / "parts" / "label_2.nii.gz", tmp_path / "parts" / "label_5.nii.gz"]
    assert all(path.is_file() for path in paths)


def test_a_study_of_several_volumes_on_one_grid(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    """Any of them will do, or one that is named."""
    stored = np.random.default_rng(0).integers(0, 900, (8, 7, 6), dtype=np.int16)
    for echo, values in ((10, stored[:4]), (90, stored[4:])):
        tags = {"EchoTime": echo, "FrameOfReferenceUID": "1.4"}
        write_slices(tmp_path / "series" / str(echo), values, uids=("P", "1.2", "1.3"), **tags)
    label_map = np.zeros((6, 7, 4), np.uint8)
    label_map[1:4, 2:6, 1:3] = 1
    grid = read_geometry(tmp_path / "series" / "echo-10")
    mask = written(tmp_path / "mask.nii.gz", Volume(label_map[None], grid))
    for like in ("series", "series/echo-90"):
        for name in ("out.nii.gz", "out.seg.dcm", "out.seg.nrrd"):
            assert export(mask, tmp_path / name, like=tmp_path / like).certificate.n_different == 0
    referred = dcmread(tmp_path / "out.seg.dcm").SourceImageSequence[0].ReferencedSOPInstanceUID
    assert referred in {dcmread(path).SOPInstanceUID for path in (tmp_path / "series" / "90").iterdir()}


def test_a_study_of_several_volumes_in_one_file(tmp_path: Path) -> None:
    study = written(tmp_path / "study.nii.gz", Volume(np.zeros((3, *SHAPE), np.int16), oblique()))
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()).oriented_as("LPS"))
    for like in (study, study / "volume-2"):
        export(mask, tmp_path / "out.nii.gz", like=like)
        assert nibabel.load(tmp_path / "out.nii.gz").shape == SHAPE


def test_volumes_on_several_grids_have_to_be_named(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    stored = np.zeros((4, 7, 6), np.int16)
    for echo, spacing in ((10, (1.0, 1.0, 2.5)), (90, (2.0, 2.0, 2.5))):
        write_slices(tmp_path / "series" / str(echo), stored, spacing=spacing, uids=("P", "1.2", "1.3"), EchoTime=echo)
    mask = written(tmp_path / "mask.nii.gz", Volume(structures()[None], oblique()))
    with pytest.raises(SourceError, match="holds 2 images, name one of them"):
        export(mask, tmp_path / "out.nii.gz", like=tmp_path / "series")
