from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg.errors import SourceError
from medseg.io.discover import image_sources
from medseg.io.nrrd.reader import data_files, itk_geometry, read_itk
from medseg.io.read import read_geometry, read_volume

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, np.float32, np.float64)
ARRAY = np.random.default_rng(0).integers(-999, 999, (5, 4, 3)).astype(np.int16)


def random_affine(seed: int, flip: bool) -> np.ndarray:
    """Voxel to LPS mm, at right angles; left-handed when flipped."""
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(rng=random).as_matrix() * random.uniform(0.3, 5, 3)
    affine[:3, 0] *= -1 if flip else 1
    affine[:3, 3] = random.uniform(-500, 500, 3)
    return affine


def to_ras(affine: np.ndarray) -> np.ndarray:
    return np.diag([-1, -1, 1, 1]) @ affine


def write(path: Path, array: np.ndarray, affine: np.ndarray, *, vector: bool = False) -> Path:
    """Voxels (x, y, z), or (channel, x, y, z) as vectors, with SimpleITK."""
    image = sitk.GetImageFromArray(array.T, isVector=vector)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=path.suffix == ".nrrd")
    return path


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000), st.booleans(), st.sampled_from(SUFFIXES), st.sampled_from(DTYPES), st.sampled_from([1, 3])
)
def test_any_affine_type_and_suffix(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flip: bool, suffix: str, dtype: type, n_channels: int
) -> None:
    random = np.random.default_rng(seed)
    shape = (n_channels, *random.integers(1, 6, 3)) if n_channels > 1 else tuple(random.integers(1, 6, 3))
    info = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else None
    array = random.integers(info.min, info.max, shape, dtype) if info else random.normal(size=shape).astype(dtype)
    affine = random_affine(seed, flip)
    path = write(tmp_path_factory.mktemp("a") / f"a{suffix}", array, affine, vector=n_channels > 1)
    volume = read_itk(path)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array if n_channels > 1 else array[None])
    np.testing.assert_allclose(volume.geometry.affine, to_ras(affine), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(itk_geometry(path).affine, volume.geometry.affine)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(["LPS", "RAS", "LAS"]), st.sampled_from(["raw", "gzip"]))
def test_any_nrrd_of_pynrrd(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flip: bool, space: str, encoding: str
) -> None:
    names = {"LPS": "left-posterior-superior", "RAS": "right-anterior-superior", "LAS": "left-anterior-superior"}
    affine = random_affine(seed, flip)
    header = {
        "space": names[space], "space directions": affine[:3, :3].T, "space origin": affine[:3, 3],
        "encoding": encoding, "endian": "big" if encoding == "raw" else "little",
    }  # fmt: skip
    path = tmp_path_factory.mktemp("a") / "a.nrrd"
    nrrd.write(str(path), ARRAY, header)
    volume = read_itk(path)
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    assert volume.array.dtype == np.int16 and volume.array.dtype.isnative
    signs = [1 if a == b else -1 for a, b in zip(space, "RAS", strict=True)]
    np.testing.assert_allclose(volume.geometry.affine, np.diag([*signs, 1]) @ affine, rtol=1e-5, atol=1e-5)


def test_a_fourth_axis_is_channels(tmp_path: Path) -> None:
    stack = np.stack([ARRAY, ARRAY + 1])
    image = sitk.JoinSeries([sitk.GetImageFromArray(array.T) for array in stack])
    for suffix in (".mha", ".nrrd"):
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(read_itk(tmp_path / f"a{suffix}").array, stack)
        assert itk_geometry(tmp_path / f"a{suffix}").shape == ARRAY.shape
    header = {"kinds": ["list", "domain", "domain", "domain"]}
    nrrd.write(str(tmp_path / "first.nrrd"), stack, header)
    np.testing.assert_array_equal(read_itk(tmp_path / "first.nrrd").array, stack)


def test_a_2d_file_is_one_slice(tmp_path: Path) -> None:
    grey = sitk.GetImageFromArray(ARRAY[:, :, 0].T)
    grey.SetSpacing((0.5, 0.7))
    grey.SetOrigin((3, 4))
    sitk.WriteImage(grey, str(tmp_path / "grey.mha"))
    volume = read_itk(tmp_path / "grey.mha")
    np.testing.assert_array_equal(volume.array, ARRAY[None, :, :, :1])
    np.testing.assert_allclose(volume.geometry.affine[:, 3], (-3, -4, 0, 1))
    assert volume.geometry.spacing == pytest.approx((0.5, 0.7, 1))
    colour = ARRAY[:, :, :3].astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colour.transpose(1, 0, 2), isVector=True), str(tmp_path / "colour.nrrd"))
    np.testing.assert_array_equal(read_itk(tmp_path / "colour.nrrd").array[..., 0], np.moveaxis(colour, -1, 0))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_damaged_files(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / f"whole{suffix}", np.arange(20**3, dtype=np.int32).reshape(20, 20, 20) ** 2, np.eye(4))
    whole = path.read_bytes()
    for n_bytes in (len(whole) - 100, len(whole) // 2, 30, 0):
        (tmp_path / f"cut{suffix}").write_bytes(whole[:n_bytes])
        with pytest.raises(SourceError, match=rf"cut{suffix}: truncated, damaged or not NRRD or MetaImage \(") as error:
            read_itk(tmp_path / f"cut{suffix}")
        assert "\n" not in str(error.value) and "0x" not in str(error.value) and "cxx" not in str(error.value)
    capfd.readouterr()  # ITK writes to the terminal, too
    with pytest.raises(SourceError, match="there is no such file"):
        read_itk(tmp_path / f"none{suffix}")


def test_what_is_no_image_of_ours(tmp_path: Path) -> None:
    complex_image = sitk.Cast(sitk.GetImageFromArray(ARRAY.astype(np.float32)), sitk.sitkComplexFloat32)
    sitk.WriteImage(complex_image, str(tmp_path / "complex.nrrd"))
    with pytest.raises(SourceError, match="voxels of type complex64 cannot be read; store integers or floats"):
        read_itk(tmp_path / "complex.nrrd")
    write(tmp_path / "image.mha", ARRAY, np.eye(4)).rename(tmp_path / "image.nrrd")
    with pytest.raises(SourceError, match="damaged or not NRRD"):
        read_itk(tmp_path / "image.nrrd")
    (tmp_path / "lost.mhd").write_text(
        write(tmp_path / "a.mhd", ARRAY, np.eye(4)).read_text().replace("a.raw", "b.raw")
    )
    with pytest.raises(SourceError, match=r"lost.mhd: truncated, damaged"):
        read_itk(tmp_path / "lost.mhd")


def test_found_in_a_folder_without_their_data_files(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        write(tmp_path / f"{suffix[1]}{suffix}", ARRAY, np.eye(4))
        (tmp_path / f"{suffix[1]}{suffix}").rename(tmp_path / f"a{suffix}")
    header = (tmp_path / "a.mhd").read_text().replace("m.raw", "voxels")
    (tmp_path / "b.mhd").write_text(header)
    (tmp_path / "m.raw").rename(tmp_path / "voxels")  # a name that DICOM files have
    (tmp_path / "a.mhd").unlink()
    (tmp_path / "IM001").write_bytes(b"")
    found = image_sources(tmp_path)
    assert [(source.kind, source.path.name) for source in found.sources] == [
        ("itk", "a.mha"), ("itk", "a.nhdr"), ("itk", "a.nrrd"), ("itk", "b.mhd"),
    ]  # fmt: skip
    for source in found.sources:
        np.testing.assert_array_equal(read_volume(source).array[0], ARRAY)
        assert read_geometry(source.path).shape == ARRAY.shape


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ElementDataFile = a.raw", ["a.raw"]),
        ("ElementDataFile = LOCAL", []),
        ("ElementDataFile = LIST\nslice 1.raw\nslice 2.raw\n", ["slice 1.raw", "slice 2.raw"]),
        ("ElementDataFile = s%03d.raw 8 12 2", ["s008.raw", "s010.raw", "s012.raw"]),
        ("data file: ./sub/a.raw.gz", ["sub/a.raw.gz"]),
        ("datafile: LIST\na\nb", ["a", "b"]),
        ("data file: s.%d 1 3 1 2", ["s.1", "s.2", "s.3"]),
        ("encoding: raw", []),
    ],
)
def test_data_files(tmp_path: Path, line: str, expected: list[str]) -> None:
    (tmp_path / "a.mhd").write_text(f"NDims = 3\n{line}")
    assert data_files(tmp_path / "a.mhd") == {tmp_path / name for name in expected}


def test_real_label_maps(real_data: Path) -> None:
    volume = read_volume(real_data / "dicom_seg" / "segmentations" / "liver_spine_seg.nrrd")
    assert volume.array.shape == (1, 512, 512, 3)
    assert np.unique(volume.array).tolist() == [0, 1, 2]
    np.testing.assert_allclose(volume.geometry.affine[:3, 3], (235.199997, 226.800003, -128.690002))
