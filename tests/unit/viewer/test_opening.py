import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medseg.errors import ConfigError, SourceError
from medseg.viewer.opening import open_cases
from medseg.viewer.scene import aligned
from medseg.workflows.evaluate import evaluate


def spoilt(blobs: Path, folder: Path, missing: int = 4) -> Path:
    folder.mkdir(parents=True)
    for i, path in enumerate(sorted((blobs / "labels").glob("*.nii.gz"))[:3]):
        image = nibabel.load(path)
        label_map = np.asarray(image.dataobj)
        label_map[:, :, : missing * i] = 0
        nibabel.save(nibabel.Nifti1Image(label_map, image.affine), folder / path.name)
    return folder


def test_cases_of_an_evaluation_come_worst_first_with_image_and_scores(blobs: Path, tmp_path: Path) -> None:
    options = {"metrics": ["overlap"], "workers": 1, "failed": "left-out"}
    evaluate(spoilt(blobs, tmp_path / "masks"), blobs, tmp_path / "metrics", **options)
    cases = open_cases(tmp_path / "metrics")
    assert [case.case_id for case in cases] == ["blob_02", "blob_01", "blob_00"]
    worst = cases[0].load()
    assert worst.source is not None
    assert worst.source.path.name == "blob_02.nii.gz"
    assert [layer.role for layer in worst.layers] == ["prediction", "reference"]
    assert worst.errors is not None
    assert worst.errors.any()
    assert not cases[2].load().errors.any()
    assert cases[2].scores["label_2"]["dice"] == 1


def test_an_evaluation_that_names_a_whole_disk_is_refused(blobs: Path, tmp_path: Path) -> None:
    evaluate(spoilt(blobs, tmp_path / "masks"), blobs, tmp_path / "metrics", metrics=["overlap"], workers=1)
    path = tmp_path / "metrics" / "metrics.json"
    content = json.loads(path.read_text())
    for key in ("predictions", "references"):
        path.write_text(json.dumps({**content, key: tmp_path.anchor}))
        with pytest.raises(SourceError, match="is no folder of masks"):
            open_cases(tmp_path / "metrics")


def test_a_run_stands_for_its_validation(blobs: Path, tmp_path: Path) -> None:
    evaluate(spoilt(blobs, tmp_path / "masks"), blobs, tmp_path / "run" / "validation", metrics=["dice"], workers=1)
    cases = open_cases(tmp_path / "run")
    assert len(cases) == 6
    without_mask = next(case for case in cases if case.case_id == "blob_05").load()
    assert not without_mask.layers[0].label_map.any()
    assert "the prediction counts as empty" in without_mask.notes[-1]


def test_a_folder_of_predictions_has_names_and_colours(blobs: Path, tmp_path: Path) -> None:
    masks = spoilt(blobs, tmp_path / "masks")
    labels = [{"name": "shell", "value": 2, "colour": [9, 8, 7]}, {"name": "core", "value": 5, "colour": [1, 2, 3]}]
    case = {
        "case_id": "blob_00",
        "source": str(blobs / "images" / "blob_00.nii.gz"),
        "masks": {"nifti": "blob_00.nii.gz"},
    }
    (masks / "predictions.json").write_text(json.dumps({"labels": {"items": labels}, "cases": [case]}))
    (opened,) = open_cases(masks)
    (layer,) = opened.load().layers
    assert layer.labels.names == ["shell", "core"]
    assert layer.labels.items[0].colour == (9, 8, 7)


def test_it_begins_amid_the_errors(blobs: Path) -> None:
    (case,) = open_cases(
        blobs / "images" / "blob_00.nii.gz",
        [blobs / "labels" / "blob_00.nii.gz"],
        blobs / "labels" / "blob_00.nii.gz",
    )
    scene = case.load()
    index = np.rint(scene.grid.index(scene.start())).astype(int)
    assert scene.layers[0].label_map[tuple(index)] != 0  # no errors: amid the mask


def test_a_mask_on_another_grid_is_resampled_and_said_to_be(blobs: Path, tmp_path: Path) -> None:
    image = nibabel.load(blobs / "labels" / "blob_00.nii.gz")
    coarse = nibabel.Nifti1Image(np.asarray(image.dataobj)[::2], image.affine @ np.diag([2, 1, 1, 1]))
    nibabel.save(coarse, tmp_path / "coarse.nii.gz")
    (case,) = open_cases(blobs / "images" / "blob_00.nii.gz", [tmp_path / "coarse.nii.gz"])
    shown = aligned(case.load())
    assert shown.layers[0].label_map.shape == shown.grid.shape == image.shape
    assert "another grid" in shown.notes[0]


def test_what_cannot_be_shown_is_said(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_cases(tmp_path / "nothing.nii.gz")
    with pytest.raises(SourceError, match="no such file"):
        open_cases(blobs / "images" / "blob_00.nii.gz", [tmp_path / "nothing.nii.gz"])
    (tmp_path / "metrics.json").write_text('{"cases": {}}')
    with pytest.raises(SourceError, match="run 'medseg evaluate' of this version"):
        open_cases(tmp_path)
    with pytest.raises(ConfigError, match="give it alone"):
        open_cases(tmp_path, [tmp_path])


def test_a_mask_outside_of_the_image_is_told(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    label_map = np.ones((6, 5, 4), np.uint8)
    away = np.eye(4)
    away[0, 3] = 5000
    image, mask = write_image(tmp_path / "image.nii.gz", label_map), write_image(tmp_path / "m.nii.gz", label_map, away)
    (case,) = open_cases(image, [mask])
    (note,) = aligned(case.load()).notes
    assert "m.nii.gz lies outside of the image" in note


def test_a_photograph_hangs_upright(tmp_path: Path) -> None:
    """Its first pixel is top left, which is the patient's right and anterior."""
    pixels = np.zeros((6, 9, 3), np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    Image.fromarray(pixels[..., 0] // 255).save(tmp_path / "mask.png")
    (case,) = open_cases(tmp_path / "picture.png", [tmp_path / "mask.png"])
    scene = aligned(case.load())
    assert scene.image is not None
    right, anterior = scene.image.array.shape[1] - 1, scene.image.array.shape[2] - 1
    assert scene.image.array[0, right, anterior, 0] == 255
    assert scene.layers[0].label_map[right, anterior, 0] == 1
    assert scene.notes == ()
