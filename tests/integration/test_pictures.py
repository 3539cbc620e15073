"""2D pictures of every kind, prepared: grey, colour, with alpha, with a palette, of 8 and 16 bits, and stacks."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.workflows.preprocess import PreprocessResult, preprocess

SHAPE = (40, 50)  # rows, columns


def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 200, SHAPE, dtype=np.uint8)


def mask(value: int = 255) -> np.ndarray:
    """A ground of 0 with a rectangle."""
    array = np.zeros(SHAPE, np.uint8)
    array[10:30, 5:25] = value
    return array


def with_palette(indices: np.ndarray) -> Image.Image:
    image = Image.fromarray(indices, mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    return image


def prepared(folder: Path, output: Path) -> PreprocessResult:
    return preprocess(folder, output, config=load(overrides=["preprocessing.workers=1"]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    Image.fromarray(mask()).save(tmp_path / "data" / "masks" / "a.png")
    return tmp_path / "data"


def save(array: np.ndarray, path: Path) -> None:
    tifffile.imwrite(path, array) if path.suffix == ".tif" else Image.fromarray(array).save(path)


@pytest.mark.parametrize(
    ("name", "array", "n_channels"),
    [
        ("a.png", grey(), 1),
        ("a.jpg", grey(), 1),
        ("a.tif", grey(), 1),
        ("a.png", grey().astype(np.uint16) * 200, 1),
        ("a.tif", grey().astype(np.uint16) * 200, 1),
        ("a.png", np.stack([grey()] * 3, axis=-1), 3),
        ("a.jpeg", np.stack([grey()] * 3, axis=-1), 3),
        ("a.tif", np.stack([grey()] * 3, axis=-1), 3),
        ("a.png", np.stack([grey()] * 4, axis=-1), 3),
        ("a.bmp", grey(), 1),
    ],
)
def test_pictures_of_every_kind(folder: Path, tmp_path: Path, name: str, array: np.ndarray, n_channels: int) -> None:
    save(array, folder / "images" / name)
    result = prepared(folder, tmp_path / "prepared")
    dataset = PreparedDataset(result.folder)
    assert dataset.image("a").shape == (n_channels, 50, 40, 1)
    assert result.plans is not None and result.plans.plan_3d is None
    np.testing.assert_array_equal(dataset.label_map("a")[:, :, 0], mask().T > 0)


def test_a_palette_marks_labels(folder: Path, tmp_path: Path) -> None:
    save(grey(), folder / "images" / "a.png")
    with_palette(np.minimum(mask(2), 2)).save(folder / "masks" / "a.png")
    result = prepared(folder, tmp_path / "prepared")
    assert result.record.labels is not None and result.record.labels.values == [2]


def test_pages_are_slices_of_one_volume_and_it_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(folder / "images" / "a.tif", np.stack([grey()] * 12), photometric="minisblack")
    (folder / "masks" / "a.png").unlink()
    tifffile.imwrite(folder / "masks" / "a.tif", np.stack([mask()] * 12), photometric="minisblack")
    result = prepared(folder, tmp_path / "prepared")
    assert PreparedDataset(result.folder).image("a").shape == (1, 50, 40, 12)
    assert "the pages of a TIFF are the slices of one volume: 1 case" in capsys.readouterr().err


def test_masks_with_stray_values_are_refused_and_say_what_puts_them_right(folder: Path, tmp_path: Path) -> None:
    for name in "ab":
        save(grey(), folder / "images" / f"{name}.png")
    strayed = mask()
    strayed[20, 5:9] = (254, 3, 1, 250)
    save(strayed, folder / "masks" / "b.png")
    result = prepared(folder, tmp_path / "prepared")
    assert [case.case_id for case in result.record.cases] == ["a"]
    assert result.record.labels is not None and result.record.labels.values == [255]
    (problem,) = result.problems
    assert problem.case_id == "b" and "was drawn in the values 0, 255" in problem.message
    command = f"'medseg inspect {folder} --fix {folder.name}-fixed'"
    assert command in problem.message and "254 (1 voxel)" in problem.message


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("a.jpg", mask(), "is a JPEG, which blurs the values of labels; save the mask as PNG"),
        ("a.png", np.stack([mask(), mask(0), mask(0)], axis=-1), "#ff0000 (400 pixels); make a label map of it"),
        ("a.tif", grey() / np.float32(3), "holds values that are not whole numbers"),
        ("a.png", mask()[:-1], "does not lie on the grid of its image: shape"),
    ],
)
def test_masks_that_are_no_label_maps(folder: Path, tmp_path: Path, name: str, array: np.ndarray, words: str) -> None:
    for case in "ab":
        save(grey(), folder / "images" / f"{case}.png")
    save(mask(), folder / "masks" / "b.png")
    (folder / "masks" / "a.png").unlink()
    save(array, folder / "masks" / name)
    result = prepared(folder, tmp_path / "prepared")
    (problem,) = result.problems
    assert problem.case_id == "a" and words in problem.message
    assert [case.case_id for case in result.record.cases] == ["b"]
