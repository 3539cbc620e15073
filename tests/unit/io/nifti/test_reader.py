import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import GeometryError, MedsegError, OutputError, SourceError
from medseg.io.nifti.reader import nifti_geometry, read_nifti
from medseg.io.nifti.writer import write_nifti
from medseg.volume import Geometry

WriteImage = Callable[..., Path]

DIRECTIONS = np.array([[0.96, -0.168, 0.224], [0.28, 0.576, -0.768], [0.0, 0.8, 0.6]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = DIRECTIONS * [0.7, 0.5, 2.5]
OBLIQUE[:3, 3] = [12.5, -7.25, 31.0]


def ramp(*shape: int, dtype: type = np.int16) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_values_and_type_are_those_on_disk(tmp_path: Path, write_image: WriteImage, name: str, dtype: type) -> None:
    array = ramp(5, 4, 3, dtype=dtype)
    volume = read_nifti(write_image(tmp_path / name, array, OBLIQUE))
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array[None])
    np.testing.assert_allclose(volume.geometry.affine, OBLIQUE, atol=1e-5)


def test_scaled_values_equal_simpleitk(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ramp(5, 4, 3), np.eye(4))
    image.header.set_slope_inter(0.25, -3.0)
    path = tmp_path / "scaled.nii.gz"
    image.to_filename(path)
    raw = path.with_suffix("").with_suffix(".raw.nii")
    raw.write_bytes(gzip.decompress(path.read_bytes()))
    slope, intercept = nibabel.load(raw).dataobj.slope, nibabel.load(raw).dataobj.inter
    assert (slope, intercept) == (0.25, -3.0)
    volume = read_nifti(path)
    assert volume.array.dtype == np.float64
    np.testing.assert_array_equal(volume.array[0].T, sitk.GetArrayFromImage(sitk.ReadImage(path)))


def test_big_endian_becomes_native(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.Nifti1Image(ramp(5, 4, 3), np.eye(4), header).to_filename(tmp_path / "big.nii")
    assert nibabel.load(tmp_path / "big.nii").get_data_dtype() == np.dtype(">i2")
    volume = read_nifti(tmp_path / "big.nii")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array[0], ramp(5, 4, 3))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ((5, 4), (1, 5, 4, 1)),
        ((5, 4, 1), (1, 5, 4, 1)),
        ((5, 4, 3, 2), (2, 5, 4, 3)),
        ((5, 4, 3, 1), (1, 5, 4, 3)),
        ((5, 4, 3, 1, 2), (2, 5, 4, 3)),
        ((5, 4, 1, 1, 2), (2, 5, 4, 1)),
    ],
)
def test_axes(tmp_path: Path, write_image: WriteImage, stored: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = ramp(*stored)
    path = write_image(tmp_path / "a.nii.gz", array)
    volume = read_nifti(path)
    assert volume.array.shape == expected
    for channel in range(expected[0]):
        np.testing.assert_array_equal(
            volume.array[channel].ravel(), array.reshape(*expected[1:], expected[0])[..., channel].ravel()
        )
    assert nifti_geometry(path).difference(volume.geometry) is None


@pytest.mark.parametrize("unit", range(8))
@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 1)])
def test_lengths_become_mm_as_in_simpleitk(tmp_path: Path, unit: int, codes: tuple[int, int]) -> None:
    image = nibabel.Nifti1Image(ramp(5, 4, 3), OBLIQUE)
    image.set_qform(OBLIQUE, codes[0])
    image.set_sform(OBLIQUE, codes[1])
    image.header["xyzt_units"] = unit | 8  # seconds
    image.to_filename(tmp_path / "a.nii")
    geometry, reference = nifti_geometry(tmp_path / "a.nii"), sitk.ReadImage(tmp_path / "a.nii")
    np.testing.assert_allclose(geometry.spacing, reference.GetSpacing(), rtol=1e-5)
    lps = np.array(reference.TransformIndexToPhysicalPoint((4, 3, 2)))
    np.testing.assert_allclose(
        geometry.world((4, 3, 2)), lps * [-1, -1, 1], rtol=1e-5, atol=1e-5 * min(geometry.spacing)
    )


def test_a_2d_file_keeps_its_place_along_z(tmp_path: Path, write_image: WriteImage) -> None:
    volume = read_nifti(write_image(tmp_path / "a.nii.gz", ramp(5, 4), OBLIQUE))
    assert volume.array.shape == (1, 5, 4, 1)
    np.testing.assert_allclose(volume.geometry.affine, OBLIQUE, atol=1e-5)


def test_more_than_one_channel_axis_is_refused(tmp_path: Path, write_image: WriteImage) -> None:
    with pytest.raises(SourceError, match="5 axes"):
        read_nifti(write_image(tmp_path / "a.nii.gz", ramp(5, 4, 3, 2, 2)))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR", "PIR"])
def test_any_orientation_equals_simpleitk(tmp_path: Path, write_image: WriteImage, orientation: str) -> None:
    start = nibabel.Nifti1Image(ramp(5, 4, 3), np.diag([0.5, 0.75, 3.0, 1.0]))
    target = nibabel.orientations.axcodes2ornt(orientation)
    turned = start.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(start.affine), target))
    path = write_image(tmp_path / "a.nii.gz", np.asarray(turned.dataobj), turned.affine)
    volume, reference = read_nifti(path), sitk.ReadImage(path)
    assert volume.geometry.orientation == orientation
    np.testing.assert_array_equal(volume.array[0].T, sitk.GetArrayFromImage(reference))
    for index in ([0, 0, 0], [4, 2, 1]):
        if all(i < n for i, n in zip(index, volume.geometry.shape, strict=True)):
            lps = reference.TransformIndexToPhysicalPoint(index)
            np.testing.assert_allclose(volume.geometry.world(index), np.array(lps) * [-1, -1, 1], atol=1e-5)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.98])
def test_truncated_files_are_named(tmp_path: Path, write_image: WriteImage, name: str, kept: float) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    path = write_image(tmp_path / name, values)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(SourceError) as caught:
        read_nifti(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_changed_byte_in_a_compressed_file_is_noticed(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii.gz", np.zeros((20, 20, 20), np.int16))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5000] ^= 1
    checksum = path.read_bytes()[-8:]
    path.write_bytes(gzip.compress(bytes(content))[:-8] + checksum)
    with pytest.raises(SourceError, match=r"a\.nii\.gz.*CRC"):
        read_nifti(path)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\0" * 1000])
def test_what_is_no_nifti_is_named(tmp_path: Path, content: bytes) -> None:
    for name, data in (("a.nii", content), ("a.nii.gz", gzip.compress(content)), ("b.nii.gz", content)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SourceError, match=name):
            read_nifti(tmp_path / name)
        with pytest.raises(SourceError, match=name):
            nifti_geometry(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_nifti(tmp_path / "a.nii.gz")


def test_complex_voxels_and_singular_affines_are_refused(tmp_path: Path, write_image: WriteImage) -> None:
    with pytest.raises(SourceError, match="complex64"):
        read_nifti(write_image(tmp_path / "a.nii.gz", ramp(5, 4, 3).astype(np.complex64)))
    image = nibabel.Nifti1Image(ramp(5, 4, 3), np.eye(4))
    image.header["vox_offset"] = 352
    image.header["srow_z"] = 0
    image.header["sform_code"] = 1
    (tmp_path / "flat.nii").write_bytes(image.header.binaryblock + b"\0" * 4 + ramp(5, 4, 3).tobytes())
    with pytest.raises(GeometryError, match=r"flat\.nii.*inverted"):
        read_nifti(tmp_path / "flat.nii")


@pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz"])
def test_a_written_mask_lies_where_simpleitk_says(tmp_path: Path, name: str) -> None:
    geometry = Geometry((5, 4, 3), OBLIQUE)
    array = ramp(5, 4, 3, dtype=np.uint8)
    write_nifti(tmp_path / name, array, geometry)
    reference = sitk.ReadImage(tmp_path / name)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(reference), array.T)
    assert reference.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    for index in ((0, 0, 0), (4, 3, 2)):
        lps = np.array(reference.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(lps * [-1, -1, 1], geometry.world(index), atol=1e-4)
    header = nibabel.load(tmp_path / name).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), OBLIQUE, atol=1e-4)
    assert header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (np.float64, np.float32),
        (np.float16, np.float32),
        (bool, np.uint8),
        (np.int64, np.int32),
        (np.int16, np.int16),
    ],
)
def test_types_as_written(tmp_path: Path, given: type, stored: type) -> None:
    array = (ramp(2, 3, 2) % 2).astype(given)
    write_nifti(tmp_path / "a.nii.gz", array, Geometry((2, 3, 2), np.eye(4)))
    volume = read_nifti(tmp_path / "a.nii.gz")
    assert volume.array.dtype == stored
    np.testing.assert_array_equal(volume.array[0], array.astype(stored))


def test_channels_are_written_as_the_fourth_axis(tmp_path: Path) -> None:
    array = ramp(2, 5, 4, 3, dtype=np.float32)
    write_nifti(tmp_path / "a.nii.gz", array, Geometry((5, 4, 3), OBLIQUE))
    assert nibabel.load(tmp_path / "a.nii.gz").shape == (5, 4, 3, 2)
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").array, array)


def test_integers_beyond_32_bits_are_not_cut(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        write_nifti(tmp_path / "a.nii", np.full((1, 1, 1), 2**40), Geometry((1, 1, 1), np.eye(4)))


@pytest.mark.parametrize("codes", [(1, 0), (0, 2), (0, 0), (1, 4)])
def test_like_copies_both_forms(tmp_path: Path, codes: tuple[int, int]) -> None:
    image = nibabel.Nifti1Image(ramp(5, 4, 3), OBLIQUE)
    image.set_qform(OBLIQUE, codes[0])
    image.set_sform(OBLIQUE, codes[1])
    image.to_filename(tmp_path / "image.nii.gz")
    volume = read_nifti(tmp_path / "image.nii.gz")
    write_nifti(tmp_path / "mask.nii.gz", volume.array[0], volume.geometry, like=tmp_path / "image.nii.gz")
    before, after = (nibabel.load(tmp_path / f"{name}.nii.gz").header for name in ("image", "mask"))
    for name in (
        "qform_code",
        "sform_code",
        "quatern_b",
        "quatern_d",
        "qoffset_y",
        "srow_x",
        "srow_z",
        "pixdim",
    ):
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert nifti_geometry(tmp_path / "mask.nii.gz").difference(volume.geometry, 0.0) is None


def test_nanometres_are_no_singular_affine(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii", ramp(5, 4, 3), np.diag([4e-6, 4e-6, 4e-5, 1]))
    assert nifti_geometry(path).spacing == pytest.approx((4e-6, 4e-6, 4e-5))


def test_like_on_another_grid_is_refused(tmp_path: Path, write_image: WriteImage) -> None:
    like = write_image(tmp_path / "image.nii.gz", ramp(5, 4, 3), OBLIQUE)
    with pytest.raises(GeometryError, match=r"image\.nii\.gz"):
        write_nifti(tmp_path / "mask.nii.gz", ramp(5, 4, 3), Geometry((5, 4, 3), np.eye(4)), like=like)
    assert not (tmp_path / "mask.nii.gz").exists()


def test_outputs_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    geometry = Geometry((5, 4, 3), np.eye(4))
    with pytest.raises(OutputError, match=r"\.nii\.gz"):
        write_nifti(tmp_path / "mask.png", ramp(5, 4, 3), geometry)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        write_nifti(tmp_path / "file" / "mask.nii.gz", ramp(5, 4, 3), geometry)


def test_real_cases_equal_simpleitk(real_data: Path) -> None:
    for path in [
        *sorted((real_data / "hippocampus" / "imagesTr").iterdir())[:5],
        *real_data.glob("sarcoma/nifti/STS_001/*"),
    ]:
        volume, reference = read_nifti(path), sitk.ReadImage(path)
        np.testing.assert_array_equal(volume.array[0].T, sitk.GetArrayFromImage(reference))
        last = [n - 1 for n in volume.geometry.shape]
        lps = np.array(reference.TransformIndexToPhysicalPoint(last))
        np.testing.assert_allclose(volume.geometry.world(last), lps * [-1, -1, 1], atol=1e-3)


def test_voxels_of_all_but_no_size_are_refused(tmp_path: Path) -> None:
    header = nibabel.Nifti2Image(ramp(5, 4, 3), np.eye(4)).header
    header["sform_code"], header["vox_offset"] = 1, 544
    header["srow_x"], header["srow_y"], header["srow_z"] = 1e-319 * np.eye(4)[:3]
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(4) + ramp(5, 4, 3).tobytes())
    with pytest.raises(MedsegError, match="a.nii: the affine in the header cannot be inverted"):
        nifti_geometry(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("vox_offset", 0, "begin in the header"),
        ("sform_code", 300, "sform_code is 300"),
        ("qform_code", -1, "qform_code is -1"),
        ("scl_inter", 5, "programs read differently"),  # without a slope: ITK adds it, nibabel does not
        ("scl_slope", 1e-30, "programs read differently"),
        ("scl_slope", 3e38, "programs read differently"),
        ("dim", [3, 5, 4, 30000, 1, 1, 1, 1], "bytes are declared"),
    ],
)
def test_what_programs_read_differently_is_refused(tmp_path: Path, field: str, value: object, reason: str) -> None:
    header = nibabel.Nifti1Image(ramp(5, 4, 3), OBLIQUE).header
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, 0, 0
    header[field] = value
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(4) + ramp(5, 4, 3).tobytes())
    with pytest.raises(MedsegError, match=reason):
        read_nifti(tmp_path / "a.nii")
    with pytest.raises(MedsegError, match=reason):
        nifti_geometry(tmp_path / "a.nii")


def test_a_tensor_is_written_as_an_array_is(tmp_path: Path) -> None:
    import torch

    label_map, grid = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4), Geometry((2, 3, 4), np.eye(4))
    write_nifti(tmp_path / "label_map.nii.gz", label_map, grid)
    np.testing.assert_array_equal(read_nifti(tmp_path / "label_map.nii.gz").array[0], label_map.numpy())
