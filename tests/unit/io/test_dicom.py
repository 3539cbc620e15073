import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    EnhancedCTImageStorage,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)

from medseg.errors import GeometryError, SourceError
from medseg.io.dicom import dicom_geometry, find_series, read_dicom
from medseg.io.source import ImageSource

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


def test_real_contours_are_left_out_with_a_note(real_data: Path) -> None:
    notes = find_series(real_data / "sarcoma" / "dicom" / "STS_001").notes
    assert len(notes) == 1
    assert "RTSTRUCT" in notes[0] and "RS.dcm and 2 more" in notes[0]


def test_real_compressed_syntaxes_equal_simpleitk(real_data: Path, tmp_path: Path) -> None:
    """The files are mosaics, which are refused; the same pixels as a plain slice are read."""
    for path in sorted((real_data / "dicom_reference" / "transfer_syntaxes" / "In").glob("*.dcm")):
        folder = tmp_path / path.stem
        folder.mkdir()
        shutil.copy(path, folder)
        _, problems, *_ = find_series(folder)
        assert len(problems) == 1
        assert "mosaic" in problems[0].message
        change(folder / path.name, ImageType=["ORIGINAL", "PRIMARY", "M"])
        source = the_series(folder)
        expected = sitk.GetArrayFromImage(sitk.ReadImage(folder / path.name))
        np.testing.assert_array_equal(read_dicom(source).array[0].T, expected, err_msg=path.name)


def test_real_4d_series_is_refused(real_data: Path) -> None:
    sources, *_ = find_series(real_data / "dicom_reference" / "ge_siemens_4d" / "In" / "20180918GE" / "mr_0004")
    with pytest.raises(GeometryError, match="150 images at 15 positions"):
        read_dicom(sources[0])
    with pytest.raises(GeometryError, match="150 images at 15 positions"):
        dicom_geometry(sources[0])


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
    "orientation", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0)]
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


@pytest.mark.parametrize(
    ("removed", "words"), [([2], "1 slice is"), ([2, 3], "2 slices are"), ([1, 2, 3, 4], "4 slices are")]
)
def test_missing_slices(tmp_path: Path, write_slices: WriteSlices, removed: list[int], words: str) -> None:
    paths = write_slices(tmp_path, noise(9), orientation=AXIAL)
    for i in removed:
        paths[i].unlink()
    with pytest.raises(GeometryError) as caught:
        read_dicom(the_series(tmp_path))
    message = str(caught.value)
    before, after = removed[0] - 1, removed[-1] + 1
    assert f"{words} missing" in message
    assert f"{before:03d}.dcm ({7 + 2.5 * before:.2f} mm" in message
    assert (
        f"{after:03d}.dcm ({7 + 2.5 * after:.2f} mm) are {2.5 * (after - before):.2f} mm apart, the others 2.50 mm"
        in message
    )


def test_unevenly_spaced_slices(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise(5), orientation=AXIAL)
    change(paths[4], ImagePositionPatient=[-20, 13, 7 + 2.5 * 4 + 1])
    with pytest.raises(GeometryError, match=r"unevenly spaced.*003\.dcm.*004\.dcm.*3\.50 mm apart, the others 2\.50"):
        read_dicom(the_series(tmp_path))


def test_positions_rounded_to_a_tenth_of_a_mm_are_even(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise(9), orientation=AXIAL)
    for i, path in enumerate(paths):
        change(path, ImagePositionPatient=[-20, 13, round(1.25 * i, 1)])
    assert read_dicom(the_series(tmp_path)).geometry.spacing[2] == pytest.approx(1.25)


def test_a_tilted_gantry(tmp_path: Path, write_slices: WriteSlices) -> None:
    paths = write_slices(tmp_path, noise(4), orientation=AXIAL)
    for i, path in enumerate(paths):
        change(path, ImagePositionPatient=[-20, 13 + 2.5 * i * np.tan(np.radians(12)), 7 + 2.5 * i])
    with pytest.raises(GeometryError, match=r"shifted sideways by up to 1\.59 mm \(12\.0°"):
        read_dicom(the_series(tmp_path))


def test_rows_and_columns_that_are_not_at_a_right_angle(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(2), ImageOrientationPatient=[1, 0, 0, 0.1, 0.99, 0])
    _, problems, *_ = find_series(tmp_path)
    assert "right angle" in problems[0].message


def test_several_images_at_a_position(tmp_path: Path, write_slices: WriteSlices) -> None:
    uids = ("P1", generate_uid(), generate_uid())
    write_slices(tmp_path / "a", noise(), uids=uids)
    write_slices(tmp_path / "b", noise(), uids=uids)
    with pytest.raises(GeometryError, match="8 images at 4 positions"):
        read_dicom(the_series(tmp_path))


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
    write_slices(tmp_path, noise(2), names=["e", "f"], Modality="SEG", SOPClassUID=SegmentationStorage)
    write_slices(tmp_path, noise(1), names=["g"], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    report = write_slices(tmp_path, noise(1), names=["h"], Modality="SR")[0]
    change(report, Rows=None, Columns=None, PixelData=None)
    colour = write_slices(tmp_path, noise(1), names=["i"], Modality="OT")[0]
    change(colour, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    sources, problems, notes, _ = find_series(tmp_path)
    assert [len(source.files) for source in sources] == [4]
    assert not problems
    words = "\n".join(notes)
    assert len(notes) == 4
    assert all(
        word in words for word in ("SEG (segmentations", "e and 1 more", "localizer", "SR (reports", "colour image")
    )


def test_multi_frame_dicom_is_refused(tmp_path: Path, write_slices: WriteSlices) -> None:
    write_slices(tmp_path, noise(1), SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=3)
    sources, problems, *_ = find_series(tmp_path)
    assert not sources
    assert "multi-frame" in problems[0].message and "3 frames" in problems[0].message
