"""What users do wrong, through the command line: one clear line each, exit status 1, and the good cases done."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

import medseg
from medseg.config import load
from medseg.dataset.store import PreparedDataset

# Each calls the command line many times, and each call imports all of it.
pytestmark = pytest.mark.slow

TINY = ["planning.cpu_base_features=4", "training.batch_size=2", "training.steps_per_epoch=2", "training.epochs=1"]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs medseg as a user does, on a terminal that is wide enough for any message."""
    return subprocess.run(
        [sys.executable, "-m", "medseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "1000"},
    )


def refused(*arguments: object, status: int = 1) -> str:
    """The last line of standard error of a command that fails without a traceback."""
    done = command(*arguments)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    if status == 2:  # wrong use is shown in a box below the usage
        return " ".join(done.stderr.replace("│", " ").split())
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def line_about(case_id: str, stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith(f"{case_id}: ")]
    assert len(lines) == 1, stderr
    return lines[0]


def problems(prepared: Path) -> dict[str, str]:
    with (prepared / "problems.csv").open(newline="", encoding="utf-8") as file:
        return {row["case_id"] or Path(row["path"]).name: row["problem"] for row in csv.DictReader(file)}


def prepared_cases(prepared: Path) -> list[str]:
    return [case["case_id"] for case in json.loads((prepared / "dataset.json").read_text())["cases"]]


class Dataset:
    """Images and label maps that can be spoilt one by one."""

    def __init__(self, folder: Path, write_image: Callable[..., Path]) -> None:
        self.folder, self.write_image = folder, write_image
        self.random = np.random.default_rng(0)

    def add(self, name: str, image: Any = None, label: Any = None, *, moved_mm: float = 0.0) -> None:
        """A case; ``image`` and ``label`` are functions that spoil the array."""
        label_map = np.zeros((12, 10, 8), np.uint8)
        label_map[3:9, 2:8, 2:6] = 2
        label_map[5:7, 4:6, 3:5] = 5
        values = (100 + 40 * label_map + self.random.normal(0, 9, label_map.shape)).astype(np.float32)
        affine = np.diag((-1.0, -1.0, 2.0, 1.0))
        self.write_image(self.image(name), image(values) if image else values, affine)
        affine[0, 3] += moved_mm
        self.write_image(self.label(name), label(label_map) if label else label_map, affine)

    def image(self, name: str) -> Path:
        return self.folder / "images" / f"{name}.nii.gz"

    def label(self, name: str) -> Path:
        return self.folder / "labels" / f"{name}.nii.gz"

    def write_json(self, names: list[str]) -> None:
        entries = [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in names]
        labels = {"0": "background", "2": "organ", "5": "lesion"}
        content = {"modality": {"0": "MRI"}, "labels": labels, "training": entries}
        (self.folder / "dataset.json").write_text(json.dumps(content))


def with_voxel(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def spoil(array: np.ndarray) -> np.ndarray:
        array[3, 4, 5] = value
        return array

    return spoil


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def dataset(tmp_path: Path, write_image: Callable[..., Path]) -> Dataset:
    return Dataset(tmp_path / "dataset", write_image)


@pytest.fixture(scope="module")
def run(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "run"
    medseg.train(prepared.folder, folder, config=load(overrides=TINY), device="cpu")
    return folder


def test_preprocess_names_each_bad_case_and_prepares_the_others(dataset: Dataset, tmp_path: Path) -> None:
    dataset.add("good_1")
    dataset.add("good_2")
    dataset.add("nan", image=with_voxel(np.nan))
    dataset.add("cut_short")
    truncate(dataset.image("cut_short"))
    dataset.add("no_bytes")
    dataset.image("no_bytes").write_bytes(b"")
    dataset.add("two_channels", image=lambda array: np.stack([array, array], axis=-1))
    dataset.add("no_image")
    dataset.image("no_image").unlink()
    dataset.add("no_label")
    dataset.label("no_label").unlink()
    dataset.add("moved", moved_mm=5)
    dataset.add("smaller", label=lambda array: array[:-1])
    dataset.add("empty", label=np.zeros_like)
    dataset.add("unknown_value", label=with_voxel(9))
    dataset.add("fractions", label=lambda array: array / np.float32(3))
    dataset.add("one_hot", label=lambda array: np.stack([array == 2, array == 5], axis=-1).astype(np.uint8))
    names = sorted(path.name.removesuffix(".nii.gz") for path in dataset.folder.rglob("*.nii.gz"))
    dataset.write_json(sorted(set(names)))
    done = command("preprocess", dataset.folder, "-o", tmp_path / "prepared")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    expected = {
        "nan": (dataset.image("nan"), "NaN or infinite: 1; replace"),
        "cut_short": (dataset.image("cut_short"), "truncated", "export it again"),
        "no_bytes": (dataset.image("no_bytes"), "Empty file", "export it again"),
        "two_channels": (dataset.image("two_channels"), "number of channels is 2, most cases have 1"),
        "no_image": (dataset.image("no_image"), "there is no such file"),
        "no_label": (dataset.label("no_label"), "there is no such file"),
        "moved": (dataset.label("moved"), "corners lie up to 5 mm apart", "medseg inspect", "--fix"),
        "smaller": (dataset.label("smaller"), "shape 12×10×8 against 11×10×8", "medseg export"),
        "empty": (dataset.label("empty"), "is empty", "--set preprocessing.allow_empty_labels=true"),
        "unknown_value": (dataset.label("unknown_value"), "values [9]", "[0, 2, 5]", "dataset.json"),
        "fractions": (dataset.label("fractions"), "not whole numbers"),
        "one_hot": (dataset.label("one_hot"), "2 channels", "make a label map"),
    }
    listed = problems(tmp_path / "prepared")
    assert listed.keys() == expected.keys()
    for name, parts in expected.items():
        line = line_about(name, done.stderr)
        assert all(str(part) in line for part in parts), line
        assert listed[name] == line.removeprefix(f"{name}: ")
    assert prepared_cases(tmp_path / "prepared") == ["good_1", "good_2"]
    assert (tmp_path / "prepared" / "cases" / "good_1" / "image.npy").is_file()


def test_channels_on_different_grids_and_an_accepted_empty_label(
    dataset: Dataset, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    dataset.add("empty", label=np.zeros_like)
    for name in ("good", "stretched", "incomplete"):
        dataset.add(name)
    folder = tmp_path / "nnunet"
    (folder / "labelsTr").mkdir(parents=True)
    for path in dataset.folder.joinpath("images").iterdir():
        name = path.name.removesuffix(".nii.gz")
        image = nibabel.load(path)
        stretch = np.diag((1, 1, 1.1 if name == "stretched" else 1, 1))
        array = np.asarray(image.dataobj)
        write_image(folder / "imagesTr" / f"{name}_0000.nii.gz", array, image.affine)
        if name != "incomplete":
            write_image(folder / "imagesTr" / f"{name}_0001.nii.gz", array, image.affine @ stretch)
        dataset.label(name).rename(folder / "labelsTr" / path.name)
    accepted = ["--set", "preprocessing.allow_empty_labels=true", "--workers", 1]
    done = command("preprocess", folder, "-o", tmp_path / "prepared", *accepted)
    assert done.returncode == 1
    line = line_about("stretched", done.stderr)
    assert "stretched_0001.nii.gz does not lie on the grid of" in line
    assert "say so with --registered" in line
    line = line_about("incomplete", done.stderr)
    assert "incomplete_0000.nii.gz: has the images 0000; the others have 0000, 0001" in line
    assert problems(tmp_path / "prepared").keys() == {"stretched", "incomplete"}
    assert prepared_cases(tmp_path / "prepared") == ["empty", "good"]


def test_dicom_files_that_are_damaged_or_none(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    study = tmp_path / "study"
    stored = np.random.default_rng(0).integers(0, 500, (6, 8, 6)).astype(np.int16)
    for name in ("good", "beside junk", "gap", "cut short"):
        files = write_slices(study / name, stored, SeriesDescription=name)
    files[2].write_bytes(files[2].read_bytes()[:-40])
    (study / "gap" / "003.dcm").write_bytes(b"this is no DICOM file" * 20)
    (study / "beside junk" / "extra.dcm").write_text("nor is this")
    (study / "beside junk" / "notes.txt").write_text("a text file is nobody's mistake")
    done = command("preprocess", study, "-o", tmp_path / "prepared")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for path in (study / "gap" / "003.dcm", study / "beside junk" / "extra.dcm"):
        assert line_about(str(path), done.stderr).endswith("left out")
    note = next(line for line in done.stderr.splitlines() if line.startswith("  gap: 1 slice is missing"))
    assert note.endswith("filled in by linear interpolation")
    assert "002.dcm: pixel data are missing, truncated or damaged" in line_about("cut_short", done.stderr)
    assert "notes.txt" not in done.stderr
    assert problems(tmp_path / "prepared").keys() == {"cut_short", "003.dcm", "extra.dcm"}
    assert prepared_cases(tmp_path / "prepared") == ["beside_junk", "gap", "good"]


def test_bad_pictures_and_a_3d_network_for_2d_images(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "cells" / folder).mkdir(parents=True)
    mask = np.zeros((24, 16), np.uint8)
    mask[4:14, 5:12] = 255
    for name in ("good_1", "good_2", "jpeg", "colour", "smaller", "damaged"):
        image = np.random.default_rng(0).integers(0, 255, (24, 16, 3)).astype(np.uint8)
        label = mask[:-2] if name == "smaller" else mask
        Image.fromarray(image if name == "colour" else image[..., 0]).save(tmp_path / f"cells/images/{name}.png")
        suffix = ".jpg" if name == "jpeg" else ".png"
        Image.fromarray(label).save(tmp_path / "cells" / "labels" / f"{name}{suffix}")
    (tmp_path / "cells" / "images" / "damaged.png").write_text("no picture")
    done = command("preprocess", tmp_path / "cells", "-o", tmp_path / "prepared", "--workers", 1)
    assert done.returncode == 1
    assert "labels/jpeg.jpg is a JPEG" in line_about("jpeg", done.stderr)
    assert "save the mask as PNG or TIFF" in line_about("jpeg", done.stderr)
    assert "number of channels is 3, most cases have 1" in line_about("colour", done.stderr)
    assert "shape 16×24×1 against 16×22×1" in line_about("smaller", done.stderr)
    assert "images/damaged.png: truncated, damaged or not an image" in line_about("damaged", done.stderr)
    assert prepared_cases(tmp_path / "prepared") == ["good_1", "good_2"]
    assert refused("train", tmp_path / "prepared", "-o", tmp_path / "run", "--dims", 3).endswith(
        "prepared holds 2D images, or volumes of too few slices; train with --dims 2"
    )


def test_predict_names_each_bad_image_and_segments_the_others(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    for name in ("good", "cut_short", "two_channels", "nan"):
        spoil = {"two_channels": lambda array: np.stack([array, array], axis=-1), "nan": with_voxel(np.nan)}
        dataset.add(name, image=spoil.get(name))
    truncate(dataset.image("cut_short"))
    done = command("predict", run, dataset.folder / "images", "-o", tmp_path / "masks")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "truncated" in line_about("cut_short", done.stderr)
    assert "NaN" in line_about("nan", done.stderr)
    assert "channels is 2, the model was trained on 1" in line_about("two_channels", done.stderr)
    record = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert [case["case_id"] for case in record["cases"]] == ["good"]
    listed = {problem["case_id"]: problem["problem"] for problem in record["problems"]}
    assert listed.keys() == {"cut_short", "two_channels", "nan"}
    assert all(f"{name}: {problem}" in done.stderr.splitlines() for name, problem in listed.items())
    mask, image = nibabel.load(tmp_path / "masks" / "good.nii.gz"), nibabel.load(dataset.image("good"))
    assert mask.shape == image.shape
    assert np.array_equal(mask.affine, image.affine)


def test_evaluate_refuses_pairs_on_different_grids(dataset: Dataset, tmp_path: Path) -> None:
    for name in ("good", "moved", "smaller", "image"):
        dataset.add(name)
    for name in ("good", "moved", "smaller", "image"):
        spoil = {"smaller": lambda array: array[:, 1:], "image": lambda array: array + np.float32(0.5)}
        other = Dataset(tmp_path / "masks", dataset.write_image)
        other.add(name, label=spoil.get(name), moved_mm=3 if name == "moved" else 0)
    done = command("evaluate", tmp_path / "masks/labels", dataset.folder / "labels", "-o", tmp_path / "metrics")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for name, reason, advice in (
        ("moved", "corners lie up to 3 mm apart", "where a header is wrong, give it that of the other"),
        ("smaller", "shape 12×9×8 against 12×10×8", "medseg export"),
    ):
        line = line_about(name, done.stderr)
        assert f"different grids: {reason}" in line
        assert advice in line
        assert line.endswith("counts as missed")
    assert "whole numbers" in line_about("image", done.stderr)
    metrics = json.loads((tmp_path / "metrics" / "metrics.json").read_text())
    assert metrics["cases"].keys() == {"good", "moved", "smaller", "image"}
    assert metrics["summary"]["over_labels"]["dice"]["mean"] == 0.25
    assert {problem["case_id"] for problem in metrics["problems"]} == {"moved", "smaller", "image"}


@pytest.mark.slow
def test_outputs_that_cannot_be_written(run: Path, blobs: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "below"
    image, label = blobs / "images" / "blob_00.nii.gz", blobs / "labels"
    for arguments in (
        ("preprocess", blobs),
        ("train", prepared.folder),
        ("predict", run, image),
        ("evaluate", label, label),
        ("export", label / "blob_00.nii.gz", "--per-label"),
    ):
        line = refused(*arguments, "-o", below)
        assert f"{below}: cannot be written (Not a directory); choose another" in line, arguments
        assert "-o" in line


def test_what_is_read_is_never_overwritten(run: Path, dataset: Dataset) -> None:
    dataset.add("a")
    dataset.write_json(["a"])
    before = {path: path.read_bytes() for path in dataset.folder.rglob("*") if path.is_file()}
    assert "choose another -o" in refused("predict", run, dataset.folder, "-o", dataset.folder / "images")
    assert "choose another" in refused("preprocess", dataset.folder, "-o", dataset.folder)
    assert "choose another" in refused("preprocess", dataset.folder / "images", "-o", dataset.folder)
    line = refused("export", dataset.label("a"), "-o", dataset.image("a"), "--like", dataset.image("a"))
    assert "choose another -o" in line
    assert before == {path: path.read_bytes() for path in dataset.folder.rglob("*") if path.is_file()}


def test_sources_with_nothing_in_them(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    line = refused("preprocess", tmp_path / "letters", "-o", tmp_path / "prepared")
    assert f"{tmp_path / 'letters'}: no images found; looked for dataset.json" in line
    line = refused("preprocess", tmp_path / "nowhere", "-o", tmp_path / "prepared")
    assert f"{tmp_path / 'nowhere'}: there is no such file or folder" in line
    line = refused("evaluate", tmp_path / "letters", tmp_path / "letters")
    assert f"{tmp_path / 'letters'}: no images found" in line
    Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / "reference.png")
    line = refused("evaluate", tmp_path / "letters", tmp_path / "reference.png")
    assert f"{tmp_path / 'letters'}: no label map, DICOM SEG, RTSTRUCT or .seg.nrrd in it" in line
    assert not (tmp_path / "prepared").exists()


@pytest.mark.slow
def test_folders_that_are_no_model_and_no_prepared_dataset(run: Path, blobs: Path, tmp_path: Path) -> None:
    line = refused("predict", blobs, blobs / "images", "-o", tmp_path / "masks")
    assert f"{blobs} is no model (it has no model.json); give a folder that 'medseg train' made" in line
    line = refused("train", blobs, "-o", tmp_path / "run")
    assert f"{blobs} is no prepared dataset (dataset.json cannot be read); make one with 'medseg preprocess'" in line
    assert not (tmp_path / "run").exists()


def test_wrong_settings_name_the_right_ones(prepared: PreparedDataset, blobs: Path, tmp_path: Path) -> None:
    train = ("train", prepared.folder, "-o", tmp_path / "run")
    line = refused(*train, "--set", "training.epoch=3")
    assert "there is no setting 'training.epoch'; did you mean 'training.epochs'?" in line
    line = refused("preprocess", blobs, "-o", tmp_path / "prepared", "--set", "preprocessing.normalization=zscores")
    assert "preprocessing.normalization cannot be 'zscores'; did you mean 'zscore'?" in line
    assert "give --max-time or --epochs, not both" in refused(*train, "--max-time", "10m", "--epochs", 3, status=2)
