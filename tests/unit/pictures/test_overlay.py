from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from medseg.errors import GeometryError
from medseg.labels import Labels
from medseg.pictures.overlay import plot_overlay
from medseg.volume import Geometry, Volume

LABELS = Labels.from_names({"liver": 1, "spleen": 4})
SPACING = (1.0, 1.5, 3.0)


def patient() -> tuple[Volume, npt.NDArray[np.uint8]]:
    """RAS. The liver on the right, in front and below; the spleen on the left, behind and above."""
    label_map = np.zeros((40, 30, 20), np.uint8)
    label_map[26:38, 16:28, 2:10] = 1
    label_map[2:8, 2:8, 9:18] = 4
    image = np.full(label_map.shape, 100, np.int16)
    return Volume(image[None], Geometry(label_map.shape, np.diag([*SPACING, 1]))), label_map


def centre_of(path: Path, colour: tuple[int, int, int], columns: slice = slice(None)) -> tuple[float, float]:
    """Row and column, as parts of the picture, of the pixels in that colour (outlines have it purely)."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)[:, columns]
    rows, cols = np.nonzero(np.abs(pixels - colour).max(axis=-1) <= 2)
    upper = rows < 0.85 * len(pixels)  # the legend is below
    return rows[upper].mean() / len(pixels), cols[upper].mean() / pixels.shape[1]


def test_right_is_on_the_left_and_front_and_top_are_up(tmp_path: Path) -> None:
    image, label_map = patient()
    output = plot_overlay(image, label_map, LABELS, tmp_path / "overlay.png")
    third = Image.open(output).width / (40 + 40 + 45) * np.array([40, 80, 125])
    axial = slice(0, int(third[0]))
    liver, spleen = (centre_of(output, label.colour, axial) for label in LABELS.items)
    assert liver[1] < spleen[1]  # the patient's right
    assert liver[0] < spleen[0]  # anterior
    coronal = slice(int(third[0]), int(third[1]))
    row, column = centre_of(output, LABELS.items[0].colour, coronal)
    assert row > 0.5  # inferior
    assert column < 0.5
    sagittal = slice(int(third[1]), None)
    assert centre_of(output, LABELS.items[0].colour, sagittal)[1] < 0.5  # anterior is on the left


@pytest.mark.parametrize("orientation", ["LPS", "SAL", "PIR"])
def test_the_picture_does_not_depend_on_the_order_of_the_axes(tmp_path: Path, orientation: str) -> None:
    image, label_map = patient()
    expected = plot_overlay(image, label_map, LABELS, tmp_path / "ras.png", reference=np.roll(label_map, 1, 0))
    turned, mask, reference = (
        Volume(array[None], image.geometry).oriented_as(orientation)
        for array in (image.array[0], label_map, np.roll(label_map, 1, 0))
    )
    output = plot_overlay(turned, mask.label_map, LABELS, tmp_path / "turned.png", reference=reference.label_map)
    assert np.array_equal(Image.open(output), Image.open(expected))


def test_a_photograph_is_shown_as_it_lies_in_its_file(tmp_path: Path) -> None:
    label_map = np.zeros((60, 40, 1), np.uint8)
    label_map[40:55, 5:15] = 1  # upper right: columns 40 to 55, rows 5 to 15
    image = np.full((3, 60, 40, 1), 30, np.uint8)
    image[0, :30] = 250  # red on the left
    photograph = Volume(image, Geometry((60, 40, 1), np.eye(4)))
    output = plot_overlay(photograph, label_map, LABELS, tmp_path / "photograph.png")
    row, column = centre_of(output, LABELS.items[0].colour)
    assert row < 0.5 < column
    assert centre_of(output, (250, 30, 30))[1] < 0.5
    width, height = Image.open(output).size
    assert width / height == pytest.approx(60 / 40, rel=0.25)  # one panel, not three


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    image, label_map = patient()
    with pytest.raises(GeometryError, match="cannot lie on an image"):
        plot_overlay(image, label_map[:-1], LABELS, tmp_path / "overlay.png")
    assert not (tmp_path / "overlay.png").exists()
