"""Objects that lie side by side have colours of their own: in the viewer, in reports, in pictures."""

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medseg.instances.object_map import ObjectMap, numbered
from medseg.instances.object_structures import NO_OBJECT, coloured, object_colours
from medseg.labels import Labels
from medseg.pictures.overlay import plot_overlay
from medseg.structures import COLOURS
from medseg.viewer.contents import ViewerContents
from medseg.viewer.opening import open_cases
from medseg.volume import Geometry, Volume
from medseg.workflows.evaluate import evaluate

LABELS = Labels.from_names({"organ": 4, "nucleus": 7}).with_instances(["nucleus"])


def brick_wall() -> np.ndarray:
    """``(24, 18, 1)``: 36 objects of 4×3 pixels, every second row shifted by half of one."""
    x, y = np.meshgrid(np.arange(24), np.arange(18), indexing="ij")
    row = y // 3
    return (1 + row * 6 + ((x + 2 * (row % 2)) % 24) // 4)[..., None].astype(np.int32)


def test_neighbours_have_different_colours() -> None:
    wall = brick_wall()
    colours = np.array([(0, 0, 0), *object_colours(wall)])[wall[..., 0]]
    for axis in range(2):
        one, other = (np.take(wall[..., 0], where, axis) for where in (range(23 - 6 * axis), range(1, 24 - 6 * axis)))
        seen, beside = (np.take(colours, where, axis) for where in (range(23 - 6 * axis), range(1, 24 - 6 * axis)))
        assert ((one == other) == (seen == beside).all(-1)).all()


@pytest.mark.parametrize("second", [(3, 3, 3), (3, 1, 2), (1, 3, 3), (2, 2, 4)])
def test_objects_that_meet_at_a_corner_are_neighbours(second: tuple[int, int, int]) -> None:
    array = np.zeros((6, 6, 6), np.int32)
    array[2, 2, 2] = 1
    array[second] = 11  # the colours of 1 and 11 are the same where they are no neighbours
    array[0, 0, :5], array[5, 0, :4] = range(2, 7), range(7, 11)
    colours = object_colours(array)
    assert colours[0] != colours[10]
    array[second], array[5, 5, 5] = 0, 11
    colours = object_colours(array)
    assert colours[0] == colours[10]


def test_labels_stay_what_they_are_and_voxels_without_object_are_grey() -> None:
    network = np.array([[[1, 2, 2, 2, 2, 0]]])
    objects = ObjectMap(np.array([[[0, 1, 2, 2, 0, 0]]], np.int32), np.array([7, 7]), ("1", "2"))
    array, items = coloured(network, LABELS, objects)
    shown = [None if value == 0 else items[value - 1] for value in array.ravel()]
    assert [each and each.name for each in shown] == ["organ", *["nucleus"] * 4, None]
    assert shown[0].colour == LABELS.items[0].colour
    assert shown[4].colour == NO_OBJECT
    assert len({shown[1].colour, shown[2].colour, NO_OBJECT}) == 3
    assert [item.value for item in items] == list(range(1, len(items) + 1))


def test_so_many_labels_that_colours_have_no_place_are_shown_as_they_are() -> None:
    labels = Labels.from_names({f"label {i}": i for i in range(1, 250)}).with_instances(["label 1"])
    network = np.array([[[1, 1, 249]]])
    array, items = coloured(network, labels, numbered(np.array([[[1, 2, 0]]])))
    assert array.tolist() == network.tolist()
    assert len(items) == 249


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


def objects_3d() -> np.ndarray:
    """Three cubes in a row that touch, and one by itself."""
    array = np.zeros((20, 9, 9), np.uint16)
    for number, first in ((300, 1), (5, 5), (70, 9), (6, 15)):
        array[first : first + 4, 2:6, 2:6] = number
    return array


def shown(cases: list) -> tuple[dict, np.ndarray, ViewerContents]:
    contents = ViewerContents(cases, "objects")
    scene = json.loads(contents.find("case/0/scene.json").body)
    image = nibabel.Nifti1Image.from_bytes(contents.find("case/0/layer0.nii").body)
    return scene["layers"][0], np.asarray(image.dataobj), contents


@pytest.mark.parametrize("folder", ["objects", "masks"])
def test_the_viewer_shows_an_object_map(tmp_path: Path, folder: str) -> None:
    image = save(tmp_path / "ct.nii.gz", np.arange(1620, dtype=np.int16).reshape(20, 9, 9))
    numbers = objects_3d()
    if folder == "masks":  # known by more values than there are labels
        numbers[0] = 1000 + np.arange(81).reshape(9, 9)
        numbers[19, :, :] = 2000 + np.arange(81).reshape(9, 9)
        numbers[14, :, :] = 3000 + np.arange(81).reshape(9, 9)
        numbers[13, :, :] = 4000 + np.arange(81).reshape(9, 9)
    layer, values, contents = shown(open_cases(image, [save(tmp_path / folder / "7.nii.gz", numbers)]))
    assert layer["objects"] == {"object": 4 if folder == "objects" else 4 + 4 * 81}
    assert {label["name"] for label in layer["labels"]} == {"object"}
    assert ((values > 0) == (numbers > 0)).all()
    assert len({values[2, 3, 3], values[6, 3, 3], values[10, 3, 3]}) == 3
    voxels = {label["index"]: round(label["ml"] * 1000) for label in layer["labels"]}
    assert [voxels[index] for index in sorted(voxels)] == np.bincount(values.ravel())[1:].tolist()
    assert contents.find(f"case/0/layer0-{values[2, 3, 3]}.mz3") is not None


def test_the_viewer_shows_the_objects_of_predictions_and_of_an_evaluation(tmp_path: Path) -> None:
    numbers = objects_3d()
    image = save(tmp_path / "images" / "a.nii.gz", np.arange(1620, dtype=np.int16).reshape(20, 9, 9))
    mask = np.where(numbers > 0, 7, 0).astype(np.uint8)
    mask[0, 0, 0] = 4
    save(tmp_path / "masks" / "a.nii.gz", mask)
    save(tmp_path / "masks" / "objects" / "a.nii.gz", numbers)
    save(tmp_path / "references" / "a.nii.gz", mask)
    case = {"case_id": "a", "source": str(image), "masks": {"nifti": "a.nii.gz"}}
    content = {"labels": LABELS.model_dump(mode="json"), "cases": [case]}
    (tmp_path / "masks" / "predictions.json").write_text(json.dumps(content))
    evaluate(tmp_path / "masks", tmp_path / "references", tmp_path / "metrics", metrics=["objects"], workers=1)
    for source in (tmp_path / "masks", tmp_path / "metrics"):
        layer, values, _ = shown(open_cases(source))
        assert layer["objects"] == {"nucleus": 4}
        assert {label["name"] for label in layer["labels"]} == {"organ", "nucleus"}
        assert len({values[2, 3, 3], values[6, 3, 3], values[10, 3, 3]}) == 3
    report = (tmp_path / "metrics" / "report.html").read_text()
    outlines = re.findall(r'class="prediction" style="--of: rgb\(([\d, ]+)\)', report)
    assert len(set(outlines)) >= 3


def test_a_picture_has_the_colours_of_objects_and_one_name_in_its_legend(tmp_path: Path) -> None:
    wall = brick_wall()
    labels = Labels.from_names({"nucleus": 1}).with_instances(["nucleus"])
    array, items = coloured((wall > 0).astype(np.uint8), labels, numbered(wall))
    picture = plot_overlay(Volume(np.zeros((1, *wall.shape)), Geometry(wall.shape, np.eye(4))), array, items,
                           tmp_path / "wall.png")  # fmt: skip
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int).reshape(-1, 3)
    found = [colour for colour in COLOURS if (np.abs(pixels - colour).max(-1) <= 2).sum() > 20]
    assert len(found) >= 3
