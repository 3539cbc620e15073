"""The commands of data/README.md, on small folders with the file names of the public datasets."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from tifffile import imwrite
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.dataset.prepared_json import DatasetRecord
from medseg.io.nifti.writer import write_nifti
from medseg.volume import Geometry

README = Path(__file__).resolve().parents[2] / "data" / "README.md"
SHAPE = (8, 7, 6)
WriteSlices = Callable[..., list[Path]]


@dataclass(frozen=True)
class Recipe:
    """A command of the README, and the script that stands before it."""

    arguments: tuple[str, ...]
    script: str

    @property
    def source(self) -> str:
        return self.arguments[1]

    def __str__(self) -> str:
        return f"{self.source} with script" if self.script else self.source


@dataclass(frozen=True)
class Expected:
    """What has to be found: case ids, channels, and label values by name. Without labels (None) the cases are DICOM
    series, of which the patients are given."""

    cases: list[str]
    channels: list[str]
    labels: dict[str, int] | None


def read_recipes() -> Iterator[Recipe]:
    script = ""
    for language, text in re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        if language == "python":
            script = text
        else:
            arguments = shlex.split(text.replace("\\\n", " "))
            assert arguments[:2] == ["medseg", "preprocess"], text
            yield Recipe(tuple(arguments[1:]), script)
            script = ""


def image(path: Path, n_channels: int = 1) -> None:
    random = np.random.default_rng(len(str(path)))
    array = random.normal(100, 50, (n_channels, *SHAPE)).astype(np.int16)
    write_nifti(path, array[0] if n_channels == 1 else array, Geometry(SHAPE, np.diag((2.0, 2.0, 3.0, 1.0))))


def mask(path: Path, *values: int) -> None:
    label_map = np.zeros(SHAPE, np.uint8)
    for i, value in enumerate(values):
        label_map[i : i + 1] = value
    write_nifti(path, label_map, Geometry(SHAPE, np.diag((2.0, 2.0, 3.0, 1.0))))


def decathlon(folder: Path, names: list[str], channels: list[str], labels: dict[str, int]) -> None:
    """As in the archives, with the files that macOS left in them. The last of ``names`` is a test image."""
    *training, testing = names
    for name in training:
        image(folder / "imagesTr" / f"{name}.nii.gz", len(channels))
        mask(folder / "labelsTr" / f"{name}.nii.gz", *labels.values())
        (folder / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"Mac OS X")
    image(folder / "imagesTs" / f"{testing}.nii.gz", len(channels))
    content = {
        "modality": {str(i): channel for i, channel in enumerate(channels)},
        "labels": {"0": "background", **{str(value): label for label, value in labels.items()}},
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in training],
        "test": [f"./imagesTs/{testing}.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def brats(folder: Path, patients: list[str], separator: str, channels: list[str], values: list[int]) -> None:
    for patient in patients:
        for channel in channels:
            image(folder / patient / f"{patient}{separator}{channel}.nii.gz")
        mask(folder / patient / f"{patient}{separator}seg.nii.gz", *values)


def kits(folder: Path, *, instances: bool) -> None:
    for case in ("case_00000", "case_00001"):
        image(folder / case / "imaging.nii.gz")
        mask(folder / case / "segmentation.nii.gz", 1, 2)
        if instances:
            mask(folder / case / "instances" / "kidney_instance-1_annotation-1.nii.gz", 1)


def lits(folder: Path) -> None:
    for batch, number in (("Training Batch 1", 0), ("Training Batch 2", 28)):
        image(folder / batch / f"volume-{number}.nii")
        mask(folder / batch / f"segmentation-{number}.nii", 1, 2)


def acdc(folder: Path) -> None:
    for patient, frames in (("patient001", ("01", "12")), ("patient002", ("01", "09"))):
        image(folder / patient / f"{patient}_4d.nii.gz", 3)
        (folder / patient / "Info.cfg").write_text("ED: 1\nES: 12\n")
        for frame in frames:
            image(folder / patient / f"{patient}_frame{frame}.nii.gz")
            mask(folder / patient / f"{patient}_frame{frame}_gt.nii.gz", 1, 2, 3)


def totalsegmentator(folder: Path) -> None:
    (folder / "s0000").mkdir(parents=True)
    (folder / "meta.csv").write_text("image_id;age;split\ns0000;60;train\n")
    for study in ("s0000", "s0001"):
        image(folder / study / "ct.nii.gz")
        for value, name in enumerate(("liver", "kidney_left", "kidney_right")):
            structure = np.zeros(SHAPE, np.uint8)
            structure[value] = 1
            path = folder / study / "segmentations" / f"{name}.nii.gz"
            write_nifti(path, structure, Geometry(SHAPE, np.diag((2.0, 2.0, 3.0, 1.0))))
        mask(folder / study / "segmentations" / "spleen.nii.gz", *([] if study == "s0000" else [1]))


def archive(folder: Path, write_slices: WriteSlices, patients: dict[str, list[str]]) -> None:
    """COLLECTION/PATIENT/STUDY/SERIES/1-01.dcm, and an RTSTRUCT and a table, as TCIA's programs leave them."""
    (folder / "metadata.csv").parent.mkdir(parents=True)
    (folder / "metadata.csv").write_text("Series UID,Collection\n")
    for patient, modalities in patients.items():
        study = folder / patient / "09-06-2000-NA-PETCT-46317"
        for number, modality in enumerate(modalities, start=1):
            place = study / f"{number}.000000-{modality}-{number:05d}"
            write_slices(
                place,
                np.arange(60, dtype=np.int16).reshape(3, 4, 5),
                names=["1-1.dcm", "1-2.dcm", "1-3.dcm"],
                uids=(patient, f"1.2.{len(patient)}", f"1.2.{number}.{sum(map(ord, patient))}"),
                Modality=modality,
                SeriesDescription=f"{modality} axial",
            )
        contours = dcmread(place / "1-1.dcm")
        contours.Modality = "RTSTRUCT"
        del contours.Rows, contours.PixelData
        (study / "9.000000-RTSTRUCT-00009").mkdir()
        contours.save_as(study / "9.000000-RTSTRUCT-00009" / "1-1.dcm")


def membranes(folder: Path) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("train-volume", "test-volume", "train-labels"):
        stack = random.integers(0, 2, (3, 32, 32)) * 255
        imwrite(folder / f"{name}.tif", stack.astype(np.uint8), photometric="minisblack")


def nuclei(folder: Path) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for case in ("07a9bf1d", "0f1f896d"):
        instances = np.zeros((32, 32), np.uint16)
        for number in range(1, 6):
            instances[number * 5 : number * 5 + 3, 4:12] = number
        imwrite(folder / "images" / f"{case}.tif", (instances > 0).astype(np.uint8) * 200)
        imwrite(folder / "masks" / f"{case}.tif", instances)


HIPPOCAMPI = ["hippocampus_001", "hippocampus_003", "hippocampus_002"]
HIPPOCAMPUS = {"Anterior": 1, "Posterior": 2}
TUMOURS = ["BRATS_001", "BRATS_002", "BRATS_485"]
AMOS = ["amos_0001", "amos_0507", "amos_0002"]  # not channels, though they look like nnU-Net's
MSD_TUMOUR = {"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
MSD_MR = ["FLAIR", "T1w", "t1gd", "T2w"]
GLI = ["BraTS-GLI-00000-000", "BraTS-GLI-00002-000"]
SARCOMA = {"STS_001": ["CT", "PT"], "STS_002": ["CT", "PT"]}

# What lies in the folder that a command names.
TREES: dict[str, Callable[[Path, WriteSlices], None]] = {
    "Task04_Hippocampus": lambda folder, _: decathlon(folder, HIPPOCAMPI, ["MRI"], HIPPOCAMPUS),
    "Task01_BrainTumour": lambda folder, _: decathlon(folder, TUMOURS, MSD_MR, MSD_TUMOUR),
    "BraTS2021_Training_Data": lambda folder, _: brats(
        folder, ["BraTS2021_00000", "BraTS2021_00002"], "_", ["flair", "t1", "t1ce", "t2"], [1, 2, 4]
    ),
    "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData": lambda folder, _: brats(
        folder, GLI, "-", ["t1c", "t1n", "t2f", "t2w"], [1, 2, 3]
    ),
    "amos22": lambda folder, _: decathlon(folder, AMOS, ["CT"], {"spleen": 1, "right kidney": 2}),
    "Totalsegmentator_dataset_v201": lambda folder, _: totalsegmentator(folder),
    "kits19/data": lambda folder, _: kits(folder, instances=False),
    "kits23/dataset": lambda folder, _: kits(folder, instances=True),
    "LITS": lambda folder, _: lits(folder),
    "ACDC/database/training": lambda folder, _: acdc(folder),
    "Soft-tissue-Sarcoma": lambda folder, write_slices: archive(folder, write_slices, SARCOMA),
    "LIDC-IDRI": lambda folder, write_slices: archive(folder, write_slices, {"LIDC-IDRI-0001": ["CT"]}),
    "isbi2012": lambda folder, _: membranes(folder),
    "dsb2018/train": lambda folder, _: nuclei(folder),
}

KITS = Expected(["case_00000", "case_00001"], ["image"], {"label_1": 1, "label_2": 2})
EXPECTED = {
    "Task04_Hippocampus": Expected(HIPPOCAMPI[:2], ["MRI"], HIPPOCAMPUS),
    "Task01_BrainTumour": Expected(TUMOURS[:2], MSD_MR, MSD_TUMOUR),
    "BraTS2021_Training_Data": Expected(
        ["BraTS2021_00000", "BraTS2021_00002"],
        ["flair", "t1", "t1ce", "t2"],
        {"label_1": 1, "label_2": 2, "label_4": 4},
    ),
    "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData": Expected(
        GLI, ["t1c", "t1n", "t2f", "t2w"], {"label_1": 1, "label_2": 2, "label_3": 3}
    ),
    "amos22": Expected(AMOS[:2], ["CT"], {"spleen": 1, "right kidney": 2}),
    "Totalsegmentator_dataset_v201": Expected(["s0000", "s0001"], ["image"], {"foreground": 1}),
    "Totalsegmentator_dataset_v201 with script": Expected(
        ["s0000", "s0001"], ["image"], {"liver": 1, "spleen": 2, "kidney_left": 3, "kidney_right": 4}
    ),
    "kits19/data": KITS,
    "kits23/dataset": KITS,
    "LITS": Expected(["Training_Batch_1_0", "Training_Batch_2_28"], ["image"], {"label_1": 1, "label_2": 2}),
    "ACDC/database/training": Expected(
        ["patient001_01", "patient001_12", "patient002_01", "patient002_09"],
        ["image"],
        {"label_1": 1, "label_2": 2, "label_3": 3},
    ),
    "Soft-tissue-Sarcoma": Expected(["STS_001", "STS_001", "STS_002", "STS_002"], ["image"], None),
    "LIDC-IDRI": Expected(["LIDC-IDRI-0001"], ["CT"], None),
    "isbi2012 with script": Expected(["00", "01", "02"], ["image"], {"foreground": 255}),
    "dsb2018/train": Expected(["07a9bf1d", "0f1f896d"], ["image"], {"nucleus": 1}),
    "dsb2018/train with script": Expected(["07a9bf1d", "0f1f896d"], ["image"], {"foreground": 1}),
}
RECIPES = list(read_recipes())


def test_each_command_of_the_readme_is_tried() -> None:
    assert sorted(map(str, RECIPES)) == sorted(EXPECTED)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_command(recipe: Recipe, tmp_path: Path, write_slices: WriteSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    TREES[recipe.source](tmp_path / recipe.source, write_slices)
    monkeypatch.chdir(tmp_path)
    exec(compile(recipe.script, "data/README.md", "exec"), {})
    result = CliRunner().invoke(app, [*recipe.arguments, "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(Path("prepared", "dataset.json").read_text(encoding="utf-8"))
    record = DatasetRecord.model_validate(content)
    expected = EXPECTED[str(recipe)]
    found = [case.group if expected.labels is None else case.case_id for case in record.cases]
    assert found == expected.cases
    assert list(record.channels) == expected.channels
    assert Path("prepared", "problems.csv").read_text().splitlines() == ["case_id,path,problem"]
    if expected.labels is None:
        assert record.labels is None
        assert len(list(Path("prepared", "nifti").iterdir())) == len(expected.cases)
    else:
        assert record.labels is not None
        assert dict(zip(record.labels.names, record.labels.values, strict=True)) == expected.labels
        assert (Path("prepared") / "cases" / expected.cases[-1] / "image.npy").is_file()
        plans = json.loads(Path("prepared", "plan.json").read_text())
        kinds = {rule["kind"] for rule in plans["plan_2d"]["grid"]["normalization"]}
        assert kinds == {"ct" if "preprocessing.normalization=ct" in recipe.arguments else "zscore"}


def test_frames_of_one_patient_are_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.dataset.layouts import find_cases

    acdc(tmp_path)
    found = find_cases(tmp_path, images="*/*_frame*.nii.gz", labels="*/*_frame*_gt.nii.gz")
    assert [case.group for case in found.cases] == ["patient001", "patient001", "patient002", "patient002"]
