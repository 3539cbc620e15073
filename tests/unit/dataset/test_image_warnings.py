"""What a header says that can hardly be true."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.dataset.cases import Case
from medseg.dataset.image_warnings import copies_among, header_warnings, says_no_spacing
from medseg.io.discover import source_of
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource


def written(
    path: Path, shape: tuple[int, ...], affine: np.ndarray | None, *, unit: str = "mm", codes: tuple[int, int] = (1, 1)
) -> ImageSource:
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), affine)
    image.header.set_xyzt_units(unit)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    nibabel.save(image, path)
    return source_of(path)


def rules(source: ImageSource) -> list[str]:
    return [doubt.rule for doubt in header_warnings(source, read_geometry(source))]


def moved(x: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = x
    return affine


def test_lost_millimetres_of_a_public_cardiac_set_are_doubted(tmp_path: Path) -> None:
    """192×192×12 voxels with the identity: as nibabel and as SimpleITK write arrays that say nothing else."""
    for affine, unit, codes in (
        (np.eye(4), "unknown", (2, 0)),
        (np.diag([-1.0, -1, 1, 1]), "mm", (1, 1)),
        (None, "unknown", (0, 0)),
    ):
        source = written(tmp_path / "a.nii.gz", (192, 192, 12), affine, unit=unit, codes=codes)
        assert "lost-spacing" in rules(source)
        assert says_no_spacing(source, read_geometry(source))


@pytest.mark.parametrize(
    ("shape", "affine", "unit"),
    [
        ((35, 51, 35), np.eye(4), "mm"),  # the hippocampus of the Decathlon: cut out of 1 mm, at the origin
        ((34, 52, 35), moved(1.0), "mm"),
        ((182, 218, 182), moved(-90.0), "mm"),  # a template
        ((182, 218, 182), np.eye(4), "mm"),  # one that lost its origin, not its spacing
        ((256, 256, 40), moved(-30.0), "mm"),  # a slab that was resampled
        ((128, 128, 1), np.eye(4), "mm"),  # one slice
        ((192, 192, 12), np.diag([1.25, 1.25, 10, 1]), "mm"),
    ],
)
def test_a_millimetre_that_may_well_be_true_is_believed(
    tmp_path: Path, shape: tuple[int, ...], affine: np.ndarray, unit: str
) -> None:
    assert rules(written(tmp_path / "a.nii.gz", shape, affine, unit=unit)) == []


@pytest.mark.parametrize(
    ("shape", "affine", "unit"),
    [
        ((192, 192, 12), moved(-96.0), "mm"),  # it has a place, and is as flat as no scanner makes it
        ((512, 512, 200), moved(-96.0), "mm"),  # half a metre of 1 mm
        ((160, 192, 128), np.eye(4), "unknown"),  # what numpy arrays get, whatever they were
    ],
)
def test_a_millimetre_that_can_hardly_be_true_is_doubted(
    tmp_path: Path, shape: tuple[int, ...], affine: np.ndarray, unit: str
) -> None:
    assert rules(written(tmp_path / "a.nii.gz", shape, affine, unit=unit)) == ["lost-spacing"]


def test_a_mha_of_a_numpy_array_is_doubted_and_a_stack_of_flat_pages(tmp_path: Path) -> None:
    import SimpleITK as sitk
    from tifffile import imwrite

    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((12, 192, 192), np.uint8)), tmp_path / "a.mha")
    imwrite(tmp_path / "a.tif", np.zeros((12, 192, 192), np.uint8), photometric="minisblack")
    imwrite(tmp_path / "b.tif", np.zeros((192, 192), np.uint8))
    assert [rules(source_of(tmp_path / name)) for name in ("a.mha", "a.tif", "b.tif")] == [
        ["lost-spacing"],
        ["lost-spacing"],
        [],
    ]


def test_the_two_files_of_a_pair_are_doubted_as_one_is(tmp_path: Path) -> None:
    image = nibabel.Nifti1Pair(np.zeros((192, 192, 12), np.uint8), None)
    nibabel.save(image, tmp_path / "a.hdr")
    assert rules(source_of(tmp_path / "a.hdr")) == ["lost-spacing", "no-place"]


@pytest.mark.parametrize(("edge", "rule"), [(0.0004, "unit"), (400.0, "spacing")])
def test_lengths_in_metres_or_micrometres_are_doubted_in_any_format(tmp_path: Path, edge: float, rule: str) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.zeros((24, 20, 22), np.uint8))
    image.SetSpacing((edge, edge, edge))
    sitk.WriteImage(image, tmp_path / "a.mha")
    affine = np.diag([edge, edge, edge, 1])
    written(tmp_path / "a.nii.gz", (22, 20, 24), affine, unit="unknown")
    assert [rules(source_of(tmp_path / name)) for name in ("a.mha", "a.nii.gz")] == [[rule], [rule]]


def test_millimetres_of_a_scanner_are_believed(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    """No spacing can be said in place of DICOM's, either."""
    upright = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    write_slices(tmp_path / "s", np.zeros((3, 80, 80), np.int16), spacing=(1.0, 1.0, 1.0), orientation=upright)
    assert rules(source_of(tmp_path / "s")) == []


def test_copies_are_told_whatever_their_names(tmp_path: Path) -> None:
    one = written(tmp_path / "a.nii", (4, 4, 4), np.eye(4))
    (tmp_path / "b.nii").write_bytes((tmp_path / "a.nii").read_bytes())
    other = written(tmp_path / "c.nii", (4, 4, 5), np.eye(4))
    cases = [Case("a", (one,)), Case("b", (source_of(tmp_path / "b.nii"),)), Case("c", (other,))]
    assert [(doubt.rule, case.case_id) for doubt, case in copies_among(cases)] == [("copy", "b")]


def test_no_public_data_is_doubted(real_data: Path) -> None:
    """Real voxels of 1 mm at the origin, 35×50×36 of them, and spacings of scanners."""
    files = [*(real_data / "hippocampus" / "imagesTr").iterdir(), *(real_data / "sarcoma" / "nifti").rglob("*_image*")]
    assert len(files) > 200
    sample = [path for path in sorted(files) if path.name.endswith(".nii.gz") and not path.name.startswith(".")][::5]
    assert {str(path): rules(source_of(path)) for path in sample if rules(source_of(path))} == {}
