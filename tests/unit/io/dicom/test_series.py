import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import gdcm
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    ParametricMapStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from medseg.errors import GeometryError, SourceError
from medseg.io.archives import origin
from medseg.io.dicom.series import dicom_geometry, find_series, read_dicom
from medseg.io.discover import image_sources
from medseg.io.source import ImageSource
from medseg.volume import Geometry, Volume

WriteSlices = Callable[..., list[Path]]

AXIAL = (1, 0, 0, 0, 1, 0)


def noise(n: int = 4, rows: int = 5, columns: int = 6, dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (n, rows, columns)).astype(dtype)


def the_series(folder: Path) -> ImageSource:
    sources, problems, *_ = find_series(folder)
    assert not problems
    assert len(sources) == 1
    return sources[0]


def by_simpleitk(folder: Path, series_uid: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Voxels (x, y, z) and affine to RAS, as GDCM reads and orders them."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series_uid))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


def assert_read_as_by_simpleitk(source: ImageSource) -> None:
    voxels, affine = by_simpleitk(source.path, source.series_uid)
    volume = read_dicom(source)
    assert volume.array.dtype == voxels.dtype
    np.testing.assert_array_equal(volume.array[0], voxels)
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-4)
    assert dicom_geometry(source).difference(volume.geometry, 0.0) is None


def assert_equals_nifti(volume: Volume, image: nibabel.Nifti1Image) -> None:
    """Voxels exactly, corners within 1e-3 mm; the order of storage doesn't count."""
    grid = Geometry(image.shape, image.affine)
    oriented = volume.oriented_as(grid.orientation)
    np.testing.assert_array_equal(oriented.array[0], np.asarray(image.dataobj))
    corners = np.array([[0, 0, 0], np.array(grid.shape) - 1])
    np.testing.assert_allclose(oriented.geometry.world(corners), grid.world(corners), atol=1e-3)


def change(path: Path, **tags: object) -> None:
    """Sets tags of a file; None deletes one."""
    header = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    header.save_as(path)


@pytest.mark.parametrize("folder", ["dicom_studies/hippocampus_study", "sarcoma/dicom"])
def test_real_series_equal_simpleitk(real_data: Path, folder: str) -> None:
    sources, problems, *_ = find_series(real_data / folder)
    assert len(sources) == {"dicom_studies/hippocampus_study": 5, "sarcoma/dicom": 9}[folder]
    assert not problems
    for source in sources:
        assert_read_as_by_simpleitk(source)


def test_real_contours_are_segmentations(real_data: Path) -> None:
    found = find_series(real_data / "sarcoma" / "dicom" / "STS_001")
    assert [source.path.name for source in found.segmentations] == ["RS.dcm"] * 3
    assert {source.kind for source in found.segmentations} == {"rtstruct"}
    assert not found.notes


@pytest.mark.parametrize("name", [f"{i}.dcm" for i in range(1, 10)])
def test_real_transfer_syntaxes_equal_dcm2niix(real_data: Path, tmp_path: Path, name: str) -> None:
    """One mosaic, uncompressed, big-endian, RLE, JPEG lossless, JPEG-LS and JPEG 2000."""
    folder = real_data / "dicom_reference" / "transfer_syntaxes"
    shutil.copy(folder / "In" / name, tmp_path)
    source = the_series(tmp_path)
    assert (len(source.files), source.frames, source.part) == (35, tuple(range(35)), "")
    assert_equals_nifti(read_dicom(source), nibabel.load(folder / "Ref" / f"{Path(name).stem}.nii"))
    assert dicom_geometry(source).difference(read_dicom(source).geometry, 0.0) is None


@pytest.mark.parametrize(
    ("series", "n_volumes", "reference"),
    [
        *((f"GE/mr_000{i}", 10, f"DCM2NIIX_regression_test_{i}") for i in (4, 5, 6, 7)),
        ("Si/mr_0003", 2, "EPI_PE=AP_3"),
        ("Si/mr_0004", 2, "EPI_PE=PA_4"),
        ("Si/mr_0005", 2, "EPI_PE=RL_5"),
        ("Si/mr_0006", 2, "EPI_PE=LR_6"),
    ],
)
def test_real_4d_series_equal_dcm2niix(real_data: Path, series: str, n_volumes: int, reference: str) -> None:
    folder = real_data / "dicom_reference" / "ge_siemens_4d"
    sources, problems, *_ = find_series(folder / "In" / f"20180918{series}")
    assert not problems
    digits = len(str(n_volumes))
    assert [source.part for source in sources] == [f"time-{i:0{digits}d}" for i in range(1, n_volumes + 1)]
    image = nibabel.load(folder / "Ref" / f"{reference}.nii")
    for i, source in enumerate(sources):
        assert_equals_nifti(read_dicom(source), image.slicer[..., i])


def test_oblique_slices_in_shuffled_files(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(), names=["c.dcm", "a.dcm", "d.dcm", "b.dcm"])
    source = the_series(tmp_path)
    assert [path.name for path in source.files] == ["c.dcm", "a.dcm", "d.dcm", "b.dcm"]
    assert (source.modality, source.description, source.patient_id) == ("CT", "Abdomen", "P1")
    assert_read_as_by_simpleitk(source)


def test_the_affine_is_the_analytic_one(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(), spacing=(0.7, 0.5, 2.5), orientation=AXIAL)
    geometry = dicom_geometry(the_series(tmp_path))
    assert geometry.shape == (6, 5, 4)
    np.testing.assert_allclose(
        geometry.affine, [[-0.7, 0, 0, 20], [0, -0.5, 0, -13], [0, 0, 2.5, 7], [0, 0, 0, 1]], atol=1e-9
    )


@pytest.mark.parametrize(
    "orientation",
    [
        (0, 1, 0, 0, 0, -1),
        (1, 0, 0, 0, 0, -1),
        (-1, 0, 0, 0, 1, 0),
        (0, 1, 0, 1, 0, 0),
        (0, -1, 0, 1, 0, 0),
        (0, 1, 0, -1, 0, 0),
        (-1, 0, 0, 0, -1, 0),
    ],
)
def test_planes_in_any_direction(tmp_path: Path, write_slices: WriteSlices, orientation: tuple[float, ...]) -> None:
    write_slices(tmp_path, noise(), orientation=orientation)
    assert_read_as_by_simpleitk(the_series(tmp_path))


@pytest.mark.parametrize("name", ["IM{}", "1.2.840.113619.{}", "slice.{}", "IM{}.IMA"])
def test_files_are_known_by_their_content(tmp_path: Path, write_slices: WriteSlices, name: str) -> None:
    write_slices(tmp_path / "a" / "b", noise(), names=[name.format(i) for i in range(4)])
    assert len(the_series(tmp_path).files) == 4


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble(tmp_path: Path, write_slices: WriteSlices, implicit: bool) -> None:
    for path in write_slices(tmp_path, noise()):
        header = pydicom.dcmread(path)
        bare = pydicom.Dataset(header)
        pydicom.dcmwrite(path, bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    source = the_series(tmp_path)
    np.testing.assert_array_equal(read_dicom(source).array[0].T, noise())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_transfer_syntaxes_that_pydicom_writes(tmp_path: Path, write_slices: WriteSlices, syntax: str) -> None:
    for path in write_slices(tmp_path, noise()):
        header = pydicom.dcmread(path)
        if syntax == RLELossless:
            header.compress(RLELossless)
        header.file_meta.TransferSyntaxUID = syntax
        header.save_as(path)
    np.testing.assert_array_equal(read_dicom(the_series(tmp_path)).array[0].T, noise())


def test_a_missing_decoder_is_named(tmp_path: Path, write_slices: WriteSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in write_slices(tmp_path, noise()):
        header = pydicom.dcmread(path)
        header.compress(RLELossless)
        header.save_as(path)

    decoder = get_decoder(RLELossless)
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"a plugin": ("its package",)})
    with pytest.raises(SourceError, match=r"000\.dcm.*RLE Lossless.*export it uncompressed"):
        read_dicom(the_series(tmp_path))


def test_two_series_in_a_folder(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(3), names=["a", "c", "e"], SeriesDescription="thin")
    write_slices(tmp_path, noise(4) + 1, names=["b", "d", "f", "g"], SeriesDescription="thick")
    sources, problems, *_ = find_series(tmp_path)
    assert sorted((source.description, len(source.files)) for source in sources) == [
        ("thick", 4),
        ("thin", 3),
    ]
    assert not problems
    for source in sources:
        assert_read_as_by_simpleitk(source)


def test_one_series_in_several_folders(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path / "a", noise())
    (tmp_path / "b").mkdir()
    for path in paths[1::2]:
        path.rename(tmp_path / "b" / path.name)
    source = the_series(tmp_path)
    assert source.path == tmp_path
    np.testing.assert_array_equal(read_dicom(source).array[0].T, noise())


def test_a_file_stands_for_its_series(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(3), names=["a", "b", "c"])
    other = write_slices(tmp_path, noise(4), names=["d", "e", "f", "g"])
    assert the_series(other[2]).files == tuple(other)


def test_two_geometries_in_a_series(tmp_path: Path, write_slices: WriteSlices) -> None:
    uids = ("P1", generate_uid(), generate_uid())
    write_slices(tmp_path, noise(3), uids=uids, names=["a", "b", "c"])
    write_slices(tmp_path, noise(4), uids=uids, names=["d", "e", "f", "g"], orientation=AXIAL)
    sources, *_ = find_series(tmp_path)
    assert [len(source.files) for source in sources] == [3, 4]
    for source in sources:
        assert "2 geometries" in source.notes[0]
        read_dicom(source)


def test_the_same_series_uid_in_two_patients(tmp_path: Path, write_slices: WriteSlices) -> None:
    series = generate_uid()
    for patient in ("P1", "P2"):
        write_slices(tmp_path / patient, noise(), uids=(patient, generate_uid(), series))
    assert [source.patient_id for source in find_series(tmp_path).sources] == ["P1", "P2"]


def test_rounded_headers_are_one_geometry(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise(), orientation=AXIAL)
    change(paths[1], ImageOrientationPatient=[1, 0.000001, 0, 0, 1, 0], PixelSpacing=[0.500001, 0.7])
    assert len(the_series(tmp_path).files) == 4


def test_positions_rounded_to_a_tenth_of_a_mm_are_even(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise(9), orientation=AXIAL)
    for i, path in enumerate(paths):
        change(path, ImagePositionPatient=[-20, 13, round(1.25 * i, 1)])
    assert read_dicom(the_series(tmp_path)).geometry.spacing[2] == pytest.approx(1.25)


def test_rows_and_columns_that_are_not_at_a_right_angle(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(2), ImageOrientationPatient=[1, 0, 0, 0.1, 0.99, 0])
    _, problems, *_ = find_series(tmp_path)
    assert "right angle" in problems[0].message


def test_exact_duplicates_are_dropped_with_a_note(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise())
    shutil.copy(paths[1], tmp_path / "copy.dcm")
    source = the_series(tmp_path)
    assert len(source.files) == 4
    assert "1 duplicate" in source.notes[0]
    np.testing.assert_array_equal(read_dicom(source).array[0].T, noise())


def test_slices_that_share_one_uid_are_no_duplicates(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(), SOPInstanceUID="1.2.3")
    assert len(the_series(tmp_path).files) == 4


@pytest.mark.parametrize(
    ("tags", "spacing", "words"),
    [
        ({"SpacingBetweenSlices": 4, "SliceThickness": 3}, 4, "4 mm"),
        ({"SliceThickness": 3}, 3, "3 mm"),
        ({"SliceThickness": None}, 1, "unknown"),
    ],
)
def test_a_single_slice(
    tmp_path: Path, write_slices: WriteSlices, tags: dict[str, object], spacing: float, words: str
) -> None:
    path = write_slices(tmp_path, noise(1))[0]
    change(path, **tags)
    source = the_series(tmp_path)
    assert read_dicom(source).geometry.spacing[2] == pytest.approx(spacing)
    assert words in source.notes[0]


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "bits", "expected"),
    [
        (np.uint16, 1, 0, 16, np.uint16),
        (np.uint8, 1, 0, 8, np.uint8),
        (np.uint16, 1, -1024, 12, np.int16),
        (np.uint16, 1, -1024, 16, np.int32),
        (np.uint16, 2, 0, 12, np.int16),
        (np.int16, -1, 5, 12, np.int16),
        (np.int16, 3, -1, 16, np.int32),
        (np.uint16, 0.5, 0, 16, np.float64),
        (np.int16, 7.3e-5, 0.25, 16, np.float64),
    ],
)
def test_slope_and_intercept(
    tmp_path: Path,
    write_slices: WriteSlices,
    dtype: type,
    slope: float,
    intercept: float,
    bits: int,
    expected: type,
) -> None:
    stored = np.minimum(noise(dtype=np.int32), 255).astype(dtype)
    write_slices(tmp_path, stored, RescaleSlope=slope, RescaleIntercept=intercept, BitsStored=bits, HighBit=bits - 1)
    source = the_series(tmp_path)
    volume = read_dicom(source)
    assert volume.array.dtype == expected
    np.testing.assert_array_equal(volume.array[0].T, stored.astype(np.float64) * slope + intercept)
    np.testing.assert_array_equal(volume.array[0], by_simpleitk(tmp_path)[0])


def test_each_slice_has_its_own_slope(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(), RescaleSlope=[0.1, 0.5, 0.25, 2], RescaleIntercept=[0, 1, 2, -3])
    assert_read_as_by_simpleitk(the_series(tmp_path))


def test_unused_bits_are_no_values(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(dtype=np.uint16) | 0x4000, BitsStored=12, HighBit=11)
    source = the_series(tmp_path)
    np.testing.assert_array_equal(read_dicom(source).array[0].T, noise())
    np.testing.assert_array_equal(read_dicom(source).array[0], by_simpleitk(tmp_path)[0])


def test_truncated_pixel_data(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise())
    paths[2].write_bytes(paths[2].read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"002\.dcm.*truncated") as caught:
        read_dicom(the_series(tmp_path))
    assert "\n" not in str(caught.value)


def test_damaged_compressed_pixel_data(tmp_path: Path, write_slices: WriteSlices) -> None:
    path = write_slices(tmp_path, noise(1))[0]
    header = pydicom.dcmread(path)
    header.compress(RLELossless)
    header.PixelData = encapsulate([b"\1" * 64])
    header.save_as(path)
    with pytest.raises(SourceError, match=r"000\.dcm.*damaged") as caught:
        read_dicom(the_series(tmp_path))
    assert "pip install" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("tag", ["PixelSpacing", "RescaleSlope"])
def test_numbers_that_are_none(tmp_path: Path, write_slices: WriteSlices, tag: str) -> None:
    path = write_slices(tmp_path, noise(1), **{tag: [0.5, 0.5] if tag == "PixelSpacing" else 0.5})[0]
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0,5"))
    sources, problems, *_ = find_series(tmp_path)
    assert not sources
    assert "0,5" in problems[0].message


def test_missing_pixel_data(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise())
    change(paths[1], PixelData=None)
    with pytest.raises(SourceError, match=r"001\.dcm.*missing"):
        read_dicom(the_series(tmp_path))


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_missing_tags_are_named(tmp_path: Path, write_slices: WriteSlices, tag: str) -> None:
    paths = write_slices(tmp_path, noise())
    source = the_series(tmp_path)
    for path in paths:
        change(path, **{tag: None})
    sources, problems, *_ = find_series(tmp_path)
    assert not sources
    assert len(problems) == 1
    assert tag in problems[0].message and "3 more files" in problems[0].message
    with pytest.raises(GeometryError, match=tag):
        read_dicom(source)


def test_what_is_no_dicom_among_dicoms(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise(5))
    (tmp_path / "broken.dcm").write_bytes(b"not a DICOM file")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "IM0005").write_bytes(b"nothing")
    (tmp_path / "cut.dcm").write_bytes(paths[4].read_bytes()[:200])
    for name in (
        "DICOMDIR",
        "LICENSE",
        "LICENSE.md",
        "README",
        "a.txt",
        "b.json",
        "c.csv",
        ".DS_Store",
        ".hidden.dcm",
        "d.xml",
    ):
        (tmp_path / name).write_bytes(b"harmless")
    sources, problems, notes, _ = find_series(tmp_path)
    assert [len(source.files) for source in sources] == [5]
    assert sorted(problem.path.name for problem in problems) == [
        "IM0005",
        "broken.dcm",
        "cut.dcm",
        "empty.dcm",
    ]
    assert all(str(problem.path) in problem.message and "\n" not in problem.message for problem in problems)
    assert not notes


def test_files_without_suffix_in_a_folder_without_dicom_are_no_problem(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all:\n")
    assert find_series(tmp_path) == ((), (), (), ())


def test_objects_that_are_no_images_are_left_out(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(), names=["a", "b", "c", "d"])
    write_slices(tmp_path, noise(2), names=["e", "f"], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    report = write_slices(tmp_path, noise(1), names=["g"], Modality="SR")[0]
    change(report, Rows=None, Columns=None, PixelData=None)
    colour = write_slices(tmp_path, noise(1), names=["h"], Modality="OT")[0]
    change(colour, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    write_slices(tmp_path, noise(1), names=["i"], SOPClassUID=SecondaryCaptureImageStorage)
    write_slices(tmp_path, noise(1), names=["j"], ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
    write_slices(tmp_path, noise(1), names=["k"], SOPClassUID=ParametricMapStorage)
    sources, problems, notes, _ = find_series(tmp_path)
    assert [len(source.files) for source in sources] == [4]
    assert not problems
    assert [note.removeprefix("left out, ").split(":")[0] for note in notes] == [
        "a localizer",
        "SR (reports, no image)",
        "a colour image (OT)",
        "a secondary capture (a picture of a screen or a paper)",
        "a screen save",
        "a parametric map",
    ]
    assert "e and 1 more" in notes[0]


@pytest.mark.parametrize(
    ("image_type", "kind"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], ""),
        (["DERIVED", "PRIMARY", "MPR"], ""),
        (["DERIVED", "SECONDARY", "ADC"], "an ADC map"),
        (["DERIVED", "PRIMARY", "DIFFUSION", "FA"], "an anisotropy map"),
        (["DERIVED", "SECONDARY", "PROJECTION IMAGE"], "a projection"),
    ],
)
def test_maps_are_told_from_images(tmp_path: Path, write_slices: WriteSlices, image_type: list[str], kind: str) -> None:
    write_slices(tmp_path, noise(5), ImageType=image_type)
    assert the_series(tmp_path).derived == kind


def test_big_endian_and_deflated_syntaxes(tmp_path: Path, write_slices: WriteSlices) -> None:
    for name, syntax in (("big", ExplicitVRBigEndian), ("deflated", DeflatedExplicitVRLittleEndian)):
        for path in write_slices(tmp_path / name, noise(), BitsStored=12, HighBit=11):
            header = pydicom.dcmread(path)
            if syntax == ExplicitVRBigEndian:
                header.PixelData = np.frombuffer(header.PixelData, "<i2").astype(">i2").tobytes()
            header.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(path, header, little_endian=syntax.is_little_endian, implicit_vr=False)
        np.testing.assert_array_equal(read_dicom(the_series(tmp_path / name)).array[0].T, noise())


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_compressed_syntaxes(tmp_path: Path, write_slices: WriteSlices, syntax: str) -> None:
    stored = noise(3, 16, 20, np.uint16)
    for path in write_slices(tmp_path, stored, BitsStored=12, HighBit=11):
        compress_with_gdcm(path, syntax)
    source = the_series(tmp_path)
    np.testing.assert_array_equal(read_dicom(source).array[0].T, stored)


def compress_with_gdcm(path: Path, syntax: str) -> None:
    kinds = {JPEGLSLossless: "JPEGLSLossless", JPEG2000Lossless: "JPEG2000Lossless"}
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change_ = gdcm.ImageChangeTransferSyntax()
    change_.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kinds[syntax])))
    change_.SetInput(reader.GetImage())
    assert change_.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change_.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax


def test_signed_values_with_dirty_high_bits(tmp_path: Path, write_slices: WriteSlices) -> None:
    """Twelve bits of two's complement, the other four used for something else."""
    values = noise() - 500
    stored = (values.astype(np.uint16) & 0x0FFF) | 0x5000
    write_slices(tmp_path, stored, BitsStored=12, HighBit=11, PixelRepresentation=1)
    source = the_series(tmp_path)
    np.testing.assert_array_equal(read_dicom(source).array[0].T, values)
    np.testing.assert_array_equal(read_dicom(source).array[0], by_simpleitk(tmp_path)[0])


def test_values_by_a_lookup_table(tmp_path: Path, write_slices: WriteSlices) -> None:
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [1000, 0, 16])
    table.add_new("LUTData", "OW", (3 * np.arange(1000)).astype("<u2").tobytes())
    table.ModalityLUTType = "US"
    write_slices(tmp_path, noise(dtype=np.uint16), ModalityLUTSequence=[table])
    np.testing.assert_array_equal(read_dicom(the_series(tmp_path)).array[0].T, 3 * noise())


def test_a_header_longer_than_usual(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(), ImageComments="long " * 30000)
    np.testing.assert_array_equal(read_dicom(the_series(tmp_path)).array[0].T, noise())


def test_repeated_slices_are_dropped_with_a_note(tmp_path: Path, write_slices: WriteSlices) -> None:
    """A slice that was sent twice under another SOPInstanceUID."""
    paths = write_slices(tmp_path, noise())
    shutil.copy(paths[1], tmp_path / "again.dcm")
    change(tmp_path / "again.dcm", SOPInstanceUID=generate_uid())
    source = the_series(tmp_path)
    assert "1 slices that repeat another one" in source.notes[0]
    np.testing.assert_array_equal(read_dicom(source).array[0].T, noise())


def test_compressed_files(tmp_path: Path, write_slices: WriteSlices) -> None:
    for path in write_slices(tmp_path / "data" / "ct", noise()):
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (source,) = image_sources(tmp_path / "data").sources
    assert origin(source.path) == tmp_path / "data" / "ct"
    np.testing.assert_array_equal(read_dicom(source).array[0].T, noise())
    (tmp_path / "data" / "ct" / "002.dcm.gz").write_bytes(gzip.compress(b"abc" * 99)[:-12])
    found = image_sources(tmp_path / "data")
    assert [problem.path.name for problem in found.problems] == ["002.dcm.gz"]
