"""A written series against independent readers: SimpleITK and pydicom."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from medseg.errors import GeometryError
from medseg.phantom.dicom_study import SeriesIdentity, write_dicom_series
from medseg.volume import Array, Geometry

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
IDENTITY = SeriesIdentity(patient_id="p1", study_uid="2.25.1", series_uid="2.25.2", description="Abdomen")


def grid(shape: tuple[int, int, int] = (12, 10, 8), *, tilted: bool = False) -> Geometry:
    tilt = Rotation.from_euler("xyz", (12, 0, 8) if tilted else (0, 0, 0), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag([-1.0, -1.0, 1.0]) * [3.917, 4.083, 6.5]
    affine[:3, 3] = [101.25, 87.5, -412.125]
    return Geometry(shape, affine)


def noise(shape: tuple[int, int, int]) -> Array:
    return np.random.default_rng(1).uniform(-1000, 1500, shape).astype(np.float32)


def read_by_simpleitk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("tilted", [False, True])
def test_simpleitk_reads_the_same_voxels_on_the_same_grid(tmp_path: Path, tilted: bool) -> None:
    geometry = grid(tilted=tilted)
    image = noise(geometry.shape)
    read = read_by_simpleitk(write_dicom_series(tmp_path / "series", image, geometry, IDENTITY))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read).transpose(2, 1, 0), np.rint(image))
    for index in ((0, 0, 0), (11, 0, 0), (0, 9, 0), (0, 0, 7), (11, 9, 7)):
        lps = read.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(geometry.world(index) * RAS_TO_LPS, lps, rtol=0, atol=1e-4)


def test_a_landmark_of_the_tilted_study_lies_in_its_voxel(tmp_path: Path) -> None:
    geometry = grid((40, 36, 20), tilted=True)
    landmark_lps = np.array([-42.0, -31.0, -362.0])
    every = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    distance_mm = np.linalg.norm(geometry.world(every) * RAS_TO_LPS - landmark_lps, axis=-1)
    assert distance_mm.min() < 4
    image = np.where(distance_mm == distance_mm.min(), 900.0, 0.0)
    read = read_by_simpleitk(write_dicom_series(tmp_path / "series", image, geometry, IDENTITY))
    assert read[read.TransformPhysicalPointToIndex(landmark_lps.tolist())] == 900


def test_headers_are_those_of_a_ct_series(tmp_path: Path) -> None:
    geometry = grid(tilted=True)
    folder = write_dicom_series(tmp_path / "series", noise(geometry.shape), geometry, IDENTITY)
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(slices) == 8
    assert {s.SOPClassUID.name for s in slices} == {"CT Image Storage"}
    assert {s.file_meta.TransferSyntaxUID.name for s in slices} == {"Explicit VR Little Endian"}
    assert {(s.PatientID, s.StudyInstanceUID, s.SeriesInstanceUID) for s in slices} == {("p1", "2.25.1", "2.25.2")}
    assert len({s.FrameOfReferenceUID for s in slices}) == 1
    assert len({s.SOPInstanceUID for s in slices}) == 8
    for s in slices:
        assert (s.RescaleIntercept, s.RescaleSlope, s.PixelRepresentation) == (-1024, 1, 1)
        rows_direction, columns_direction = np.reshape(s.ImageOrientationPatient, (2, 3)).astype(float)
        assert abs(rows_direction @ columns_direction) < 1e-12
        assert list(s.PixelSpacing) == [4.083, 3.917]  # between rows, between columns


def test_nothing_but_the_position_gives_the_order_of_slices(tmp_path: Path) -> None:
    geometry = grid((4, 4, 20))
    folder = write_dicom_series(tmp_path / "series", noise(geometry.shape), geometry, IDENTITY)
    slices = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir())]
    heights = [float(s.ImagePositionPatient[2]) for s in slices]
    assert heights not in (sorted(heights), sorted(heights, reverse=True))
    by_number = [float(s.ImagePositionPatient[2]) for s in sorted(slices, key=lambda s: s.InstanceNumber)]
    assert by_number == sorted(heights, reverse=True)
    assert all(path.suffix == "" for path in folder.iterdir())


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    geometry = grid()
    one, two = (write_dicom_series(tmp_path / n, noise(geometry.shape), geometry, IDENTITY) for n in "ab")
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in two.iterdir()}


def test_values_outside_of_twelve_bits_are_clipped(tmp_path: Path) -> None:
    geometry = grid()
    image = np.zeros(geometry.shape)
    image[0, 0, 0], image[1, 0, 0] = -2000, 9000
    read = read_by_simpleitk(write_dicom_series(tmp_path / "series", image, geometry, IDENTITY))
    assert (read[0, 0, 0], read[1, 0, 0]) == (-1024, 3071)


def test_a_sheared_grid_is_refused(tmp_path: Path) -> None:
    affine = grid().affine.copy()
    affine[1, 2] += 1.0
    geometry = Geometry((12, 10, 8), affine)
    with pytest.raises(GeometryError, match="sheared"):
        write_dicom_series(tmp_path / "series", noise(geometry.shape), geometry, IDENTITY)
    assert not (tmp_path / "series").exists()


def test_an_image_off_the_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shape"):
        write_dicom_series(tmp_path / "series", noise((3, 4, 5)), grid(), IDENTITY)
