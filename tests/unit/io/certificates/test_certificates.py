"""A certificate has to fail whenever a mask is not what was to be written: each test breaks one mask in one way."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from medseg.errors import OutputError
from medseg.io.certificates.certificate import Certificate, together
from medseg.io.discover import source_of
from medseg.io.folders import files_under
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, PNG, TIFF, Format, write_mask
from medseg.io.nifti.writer import write_nifti_mask
from medseg.io.read import read_geometry
from medseg.labels import Labels
from medseg.volume import Geometry

VOXELS = ("nifti", "nifti-per-label", "seg-nrrd")
SURFACES = ("stl", "obj")
NAMED = ("nifti-per-label", "seg-nrrd", "dicom-seg", "rtstruct", "stl", "obj")


def one_voxel_more(mask: LabelMapVolume) -> LabelMapVolume:
    label_map = mask.label_map.copy()
    x, y, z = np.argwhere(label_map == 1)[0]
    label_map[x - 1, y, z] = 1
    return replace(mask, label_map=label_map)


def two_voxels_aside(mask: LabelMapVolume) -> LabelMapVolume:
    return replace(mask, label_map=np.roll(mask.label_map, 2, axis=0))


def mirrored(mask: LabelMapVolume) -> LabelMapVolume:
    return replace(mask, label_map=mask.label_map[::-1])


def next_slice(mask: LabelMapVolume) -> LabelMapVolume:
    return replace(mask, label_map=np.roll(mask.label_map, 1, axis=2))


def a_third_of_a_mm_aside(mask: LabelMapVolume) -> LabelMapVolume:
    affine = mask.geometry.affine.copy()
    affine[1, 3] += 0.3
    return replace(mask, geometry=Geometry(mask.geometry.shape, affine))


def swapped(mask: LabelMapVolume) -> LabelMapVolume:
    return replace(mask, label_map=np.array([0, 2, 1], np.uint8)[mask.label_map])


def renamed(mask: LabelMapVolume) -> LabelMapVolume:
    return replace(mask, labels=mask.labels.renamed({2: "kidney_right"}))


def names_swapped(mask: LabelMapVolume) -> LabelMapVolume:
    return replace(mask, labels=Labels.from_names({"liver": 2, "kidney_left": 1}))


WRONG: list[tuple[Callable[[LabelMapVolume], LabelMapVolume], tuple[str, ...]]] = [
    (one_voxel_more, (*VOXELS, *SURFACES, "dicom-seg")),  # contours are judged by Dice
    (two_voxels_aside, tuple(FORMATS)),
    (mirrored, tuple(FORMATS)),
    (next_slice, tuple(FORMATS)),
    (swapped, tuple(FORMATS)),
    (a_third_of_a_mm_aside, (*VOXELS, *SURFACES)),  # a third of a pixel is none: slices are where they are
    (renamed, NAMED),
    (names_swapped, NAMED),
]


@pytest.mark.parametrize(("wrong", "name"), [(wrong, name) for wrong, names in WRONG for name in names])
def test_another_mask_is_refused_and_kept_aside(
    wrong: Callable[[LabelMapVolume], LabelMapVolume], name: str, balls: LabelMapVolume, tmp_path: Path
) -> None:
    format_ = FORMATS[name]
    refused(replace(format_, write=lambda path, mask: format_.write(path, wrong(mask))), balls, tmp_path / "masks")


def refused(format_: Format, mask: LabelMapVolume, folder: Path) -> str:
    """The message; the mask is kept, where nothing takes it for one."""
    path = format_.path(folder, "case")
    with pytest.raises(OutputError, match="is not what was to be written") as error:
        write_mask(format_, path, mask)
    assert [each.name for each in folder.iterdir()] == [f"{path.name}.rejected"]
    assert f"kept aside as {path.name}.rejected" in str(error.value)
    assert not files_under(folder)
    return str(error.value)


def changed(name: str, change: Callable[[Dataset], None]) -> Format:
    """A format whose files are changed after they were written."""

    def write(path: Path, mask: LabelMapVolume) -> list[Path]:
        files = FORMATS[name].write(path, mask)
        dataset = dcmread(path)
        change(dataset)
        dataset.save_as(path)
        return files

    return replace(FORMATS[name], write=write)


def flip_a_bit(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[len(pixels) // 2] ^= 8
    dataset.PixelData = bytes(pixels)


def move_a_frame(dataset: Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0]
    x, y, z = position.ImagePositionPatient
    position.ImagePositionPatient = [float(x) + 0.2, y, z]


def drop_a_frame(dataset: Dataset) -> None:
    """The last: whole bytes, so that the others stay where they are."""
    size = dataset.Rows * dataset.Columns // 8
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    dataset.NumberOfFrames -= 1
    dataset.PixelData = dataset.PixelData[: dataset.NumberOfFrames * size]


def repeat_a_frame(dataset: Dataset) -> None:
    first, second = dataset.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence


def refer_to_the_next_slice(dataset: Dataset) -> None:
    first, second = (
        group.DerivationImageSequence[0].SourceImageSequence[0]
        for group in dataset.PerFrameFunctionalGroupsSequence[:2]
    )
    first.ReferencedSOPInstanceUID = second.ReferencedSOPInstanceUID


def other_frame_of_reference(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "1.2.3.4"


@pytest.fixture
def tilted(segmented_balls: Callable[..., LabelMapVolume], tmp_path: Path) -> LabelMapVolume:
    return segmented_balls(tmp_path / "series", "tilted by 20°")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flip_a_bit, "1 of .* voxels differ"),
        (move_a_frame, "0.2 mm away from its place"),
        (drop_a_frame, "voxels differ"),
        (repeat_a_frame, "show one segment at one place"),
        (refer_to_the_next_slice, "refers to another one"),
        (other_frame_of_reference, "frame of reference is not that of the source"),
    ],
)
def test_a_segmentation_that_was_changed_is_refused(
    change: Callable[[Dataset], None], reason: str, tilted: LabelMapVolume, tmp_path: Path
) -> None:
    assert re.search(reason, refused(changed("dicom-seg", change), tilted, tmp_path / "masks"))


def contours(dataset: Dataset) -> list[Dataset]:
    return [contour for roi in dataset.ROIContourSequence for contour in roi.ContourSequence]


def move_contours(dataset: Dataset, *, by: tuple[float, float, float]) -> None:
    for contour in contours(dataset):
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3) + by
        contour.ContourData = [f"{value:.5f}" for value in points.ravel()]


def drop_a_contour(dataset: Dataset) -> None:
    del dataset.ROIContourSequence[1].ContourSequence[2]


def refer_to_another_slice(dataset: Dataset) -> None:
    contours(dataset)[0].ContourImageSequence = contours(dataset)[1].ContourImageSequence


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (partial(move_contours, by=(1.0, 0.0, 0.0)), r"Dice is 0\.\d+ for one structure"),
        (partial(move_contours, by=(0.0, 0.0, 0.4)), "mm away from its place"),
        (partial(move_contours, by=(0.0, 0.0, 2.5)), "refers to another one"),
        (drop_a_contour, r"Dice is 0\.\d+ for one structure"),
        (refer_to_another_slice, "refers to another one"),
        (other_frame_of_reference, "frame of reference is not that of the source"),
    ],
)
def test_a_structure_set_that_was_changed_is_refused(
    change: Callable[[Dataset], None], reason: str, balls: LabelMapVolume, tmp_path: Path
) -> None:
    assert re.search(reason, refused(changed("rtstruct", change), balls, tmp_path / "masks"))


def test_contours_moved_by_less_than_matters_pass(balls: LabelMapVolume, tmp_path: Path) -> None:
    """A twentieth of a pixel: no centre of a pixel is crossed."""
    format_ = changed("rtstruct", partial(move_contours, by=(0.04, 0.0, 0.0)))
    certificate = write_mask(format_, tmp_path / "case.dcm", balls).certificate
    assert (certificate.n_different, certificate.dice) == (0, 1.0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_short_is_refused(name: str, balls: LabelMapVolume, tmp_path: Path) -> None:
    format_ = FORMATS[name]

    def write(path: Path, mask: LabelMapVolume) -> list[Path]:
        files = format_.write(path, mask)
        content = files[0].read_bytes()
        files[0].write_bytes(content[: len(content) * 2 // 3])
        return files

    refused(replace(format_, write=write), balls, tmp_path / "masks")


@pytest.fixture
def on_nifti(tmp_path: Path) -> LabelMapVolume:
    """On a NIfTI image with a qform that lies 1 mm from its sform: readers go by either."""
    affine = np.diag([0.9, 1.2, 2.5, 1.0])
    image = nibabel.Nifti1Image(np.zeros((12, 10, 8), np.int16), affine)
    image.header.set_qform(affine + np.outer([1, 0, 0, 0], [0, 0, 0, 1]), code=1)
    image.header.set_sform(affine, code=2)
    nibabel.save(image, tmp_path / "image.nii.gz")
    source = source_of(tmp_path / "image.nii.gz")
    label_map = np.zeros((12, 10, 8), np.uint8)
    label_map[3:9, 2:7, 1:5], label_map[4:6, 3:5, 2:4] = 1, 2
    return LabelMapVolume(label_map, read_geometry(source), Labels.from_names({"liver": 1, "cyst": 2}), source)


def test_nifti_has_the_sform_and_the_qform_of_its_source(on_nifti: LabelMapVolume, tmp_path: Path) -> None:
    write_mask(FORMATS["nifti"], tmp_path / "mask.nii.gz", on_nifti)
    image, mask = nibabel.load(tmp_path / "image.nii.gz"), nibabel.load(tmp_path / "mask.nii.gz")
    for form in ("sform", "qform"):
        ours, theirs = (getattr(each, f"get_{form}")(coded=True) for each in (mask, image))
        assert np.array_equal(ours[0], theirs[0])
        assert ours[1] == theirs[1]


def test_nifti_without_the_qform_of_its_source_is_refused(on_nifti: LabelMapVolume, tmp_path: Path) -> None:
    def write(path: Path, mask: LabelMapVolume) -> list[Path]:
        return write_nifti_mask(path, replace(mask, source=None))

    assert "1 mm away" in refused(replace(FORMATS["nifti"], write=write), on_nifti, tmp_path / "masks")


def test_pictures_are_confirmed_too(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).choice(np.array([0, 1, 300], np.uint16), (9, 7, 1))
    labels = Labels.from_names({"cell": 1, "nucleus": 300})
    mask = LabelMapVolume(cells, Geometry((9, 7, 1), np.eye(4)), labels)
    pages = LabelMapVolume(np.repeat(cells, 4, axis=2), Geometry((9, 7, 4), np.eye(4)), labels)
    assert write_mask(PNG, tmp_path / "mask.png", mask).certificate.n_voxels == 63
    assert write_mask(TIFF, tmp_path / "mask.tif", mask).certificate.n_voxels == 63
    assert write_mask(TIFF, tmp_path / "pages.tif", pages).certificate.n_voxels == 252
    wrong = replace(PNG, write=lambda path, mask: PNG.write(path, mirrored(mask)))
    assert "voxels differ" in refused(wrong, mask, tmp_path / "masks")


def test_several_certificates_are_as_bad_as_the_worst() -> None:
    right = Certificate("reader", 100, 0, 0.0, 0.1)
    assert together([right, right]).as_json() == {
        "reader": "reader", "n_voxels": 200, "n_different": 0, "max_distance_mm": 0.0, "passed": True
    }  # fmt: skip
    assert "1 of 200" in together([right, replace(right, n_different=1)]).fault
    assert "2 mm away" in together([replace(right, max_distance_mm=2.0), right]).fault
    assert "nan mm away" in together([replace(right, max_distance_mm=float("nan"))]).fault
    assert together([right, replace(right, remark="not closed")]).fault == "not closed"
    assert "0.9800" in together([replace(right, dice=1.0), replace(right, dice=0.98)]).fault
