"""Voxel sizes that the user says, since headers lost them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.dataset.layouts import find_cases
from medseg.dataset.spacing import checked_spacing, with_spacing
from medseg.errors import ConfigError, GeometryError
from medseg.io.read import read_geometry, read_volume

WriteImage = Callable[..., Path]
SPACING = (1.25, 1.25, 10.0)


@pytest.fixture
def hearts(tmp_path: Path, write_image: WriteImage) -> Path:
    """Two cases of 64×60×8 voxels, whose headers say nothing."""
    for i in range(2):
        label_map = np.zeros((64, 60, 8), np.uint8)
        label_map[20:40, 20 + i : 40, 2:6] = 1
        image = (100 + 80 * label_map + np.random.default_rng(i).normal(0, 5, label_map.shape)).astype(np.int16)
        write_image(tmp_path / "hearts" / "images" / f"p{i}.nii.gz", image)
        write_image(tmp_path / "hearts" / "labels" / f"p{i}.nii.gz", label_map)
    return tmp_path / "hearts"


@pytest.mark.parametrize(
    "given", ["1.25 1.25 10", "1.25x1.25x10", "1.25×1.25×10", "[1.25, 1.25, 10]", (1.25, 1.25, 10)]
)
def test_a_spacing_is_three_lengths_in_mm(given: object) -> None:
    assert checked_spacing(given) == SPACING  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["", "1 1", "1 1 1 1", "1 1 0", "1 1 -2", "1 1 nan", "inf 1 1", "a b c", "1 1 1000"])
def test_what_is_no_spacing_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="three numbers"):
        checked_spacing(given)


def test_images_and_label_maps_are_read_as_said(hearts: Path) -> None:
    for case in with_spacing(find_cases(hearts), SPACING).cases:
        assert case.label is not None
        for source in (*case.images, *case.label.sources):
            assert read_geometry(source).spacing == read_volume(source).geometry.spacing == SPACING


def test_what_is_said_of_a_turned_image_follows_its_own_axes(tmp_path: Path, write_image: WriteImage) -> None:
    turned = np.array([[0, 0, -1.0, 5], [-1.0, 0, 0, 7], [0, 1.0, 0, -3], [0, 0, 0, 1]])
    path = write_image(tmp_path / "a.nii.gz", np.zeros((64, 60, 8), np.int16), turned)
    (case,) = with_spacing(find_cases(path), SPACING).cases
    geometry = read_geometry(case.images[0])
    assert geometry.spacing == SPACING
    np.testing.assert_array_equal(geometry.affine[:, 3], turned[:, 3])
    assert geometry.orientation == "PSL"


def test_dicom_says_itself_where_it_lies(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    write_slices(tmp_path / "study", np.zeros((3, 8, 8), np.int16))
    (case,) = with_spacing(find_cases(tmp_path / "study"), SPACING).cases
    with pytest.raises(GeometryError, match="DICOM"):
        read_geometry(case.images[0])


def test_a_table_says_it_case_by_case(hearts: Path, tmp_path: Path) -> None:
    rows = ["case_id,image,label,spacing", f"a,{hearts}/images/p0.nii.gz,{hearts}/labels/p0.nii.gz,1.25 1.25 10"]
    rows += [f"b,{hearts}/images/p1.nii.gz,{hearts}/labels/p1.nii.gz,"]
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    found = find_cases(tmp_path / "cases.csv")
    assert [case.spacing for case in found.cases] == [SPACING, None]
    said = with_spacing(found, (2, 2, 2))
    assert [case.spacing for case in said.cases] == [SPACING, (2.0, 2.0, 2.0)]
    assert said.notes[-1] == "--spacing 2 2 2 does not hold for 1 case with a spacing of its own"


def test_a_table_with_a_column_an_axis_and_one_wrong_row(hearts: Path, tmp_path: Path) -> None:
    header = "case_id,image,label,spacing_x,spacing_y,spacing_z"
    rows = [f"p{i},{hearts}/images/p{i}.nii.gz,{hearts}/labels/p{i}.nii.gz," for i in range(2)]
    (tmp_path / "cases.csv").write_text("\n".join([header, f"{rows[0]}1.25,1.25,10", f"{rows[1]}1.25,1.25,"]))
    found = find_cases(tmp_path / "cases.csv")
    assert [(case.case_id, case.spacing) for case in found.cases] == [("p0", SPACING)]
    (problem,) = found.problems
    assert problem.case_id == "p1"
    assert "three numbers" in problem.message
