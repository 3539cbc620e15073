"""Tumours as BraTS has them, by the command line: labels 1, 2 and 4, and regions that lie in one another."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.device import choose_device
from medseg.errors import ModelError
from medseg.inferers.model import load_model
from medseg.inferers.model_record import read_model_record

CHANNELS = ("FLAIR", "T1", "T1ce", "T2")
REGIONS = ("whole tumour", "tumour core", "enhancing tumour")
VALUES = {"whole tumour": (1, 2, 4), "tumour core": (1, 4), "enhancing tumour": (4,)}
# How bright oedema, necrosis and the enhancing rim are in each channel; the rest of the brain is 100.
BRIGHTNESS = {"FLAIR": (200, 160, 190), "T1": (90, 60, 80), "T1ce": (95, 60, 220), "T2": (190, 200, 170)}
SHAPE = (24, 22, 20)


def write_brain(folder: Path, case_id: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))
    centre = np.array(SHAPE) / 2 + random.uniform(-2, 2, 3)
    distance = np.linalg.norm(grid - centre[:, None, None, None], axis=0)
    label_map = np.select([distance < 2.5, distance < 4.5, distance < 7.5], [1, 4, 2], 0).astype(np.uint8)
    for i, channel in enumerate(CHANNELS):
        oedema, necrosis, rim = BRIGHTNESS[channel]
        image = np.select([label_map == 2, label_map == 1, label_map == 4], [oedema, necrosis, rim], 100)
        noisy = (image + random.normal(0, 8, SHAPE)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(noisy, np.eye(4)), folder / "imagesTr" / f"{case_id}_{i:04d}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label_map, np.eye(4)), folder / "labelsTr" / f"{case_id}.nii.gz")


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Dataset137_Brains")
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    for seed in range(4):
        write_brain(folder, f"brain_{seed}", seed)
    content = {
        "channel_names": {str(i): channel for i, channel in enumerate(CHANNELS)},
        "labels": {"background": 0, **{name: list(values) for name, values in VALUES.items()}},
        "regions_class_order": [2, 1, 4],
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def medseg(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def prepared(brains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    medseg("preprocess", brains, "-o", folder, "--set", "preprocessing.workers=1")
    return folder


SETTINGS = (
    "planning.cpu_base_features=8",
    "planning.cpu_patch_voxels=4096",
    "training.batch_size=2",
    "training.steps_per_epoch=70",
    "training.learning_rate=1e-2",
    "training.average_decay=0.9",
    "training.epochs=2",
    "training.folds=2",
    "augmentation.rotation_probability=0",
    "augmentation.scaling_probability=0",
    "augmentation.inverted_gamma_probability=0",
)
SHORT = ("training.epochs=1", "training.steps_per_epoch=3")


def train(prepared: Path, run: Path, *more: str) -> str:
    flags = [flag for setting in (*SETTINGS, *more) for flag in ("--set", setting)]
    return medseg("train", prepared, "-o", run, "--device", "cpu", *flags)


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    said = " ".join(train(prepared, folder).split())
    assert "learns regions, which may overlap: whole tumour, tumour core, enhancing tumour" in said
    return folder


def test_regions_are_learnt(run: Path) -> None:
    record = read_model_record(run / "model")
    assert record.outputs == REGIONS
    assert [region.value for region in record.plan.regions] == [2, 1, 3]
    metrics = json.loads((run / "validation" / "metrics.json").read_text())
    dice = {name: label["metrics"]["dice"]["mean"] for name, label in metrics["summary"]["labels"].items()}
    assert set(dice) == set(REGIONS)
    assert min(dice.values()) >= 0.9, dice
    rows = list(csv.DictReader((run / "log.csv").open()))
    for name in REGIONS:
        assert float(rows[-1][f"train_dice_{name}"]) > 0.8
        assert float(rows[-1][f"val_dice_{name}"]) > 0.8


def test_new_brains_are_predicted_and_evaluated(run: Path, tmp_path: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    write_brain(tmp_path, "new", 9)
    masks, reports = tmp_path / "masks", tmp_path / "metrics"
    medseg(
        "predict", run, tmp_path / "imagesTr", "-o", masks, "--device", "cpu", "--save-probabilities", "--uncertainty"
    )
    label_map = np.asarray(nibabel.load(masks / "new.nii.gz").dataobj)
    assert set(np.unique(label_map)) == {0, 1, 2, 4}
    # The model grid is that of the image: what was written is what is more likely than not.
    inside = {
        name: np.asarray(nibabel.load(masks / "probabilities" / "new" / f"{name.replace(' ', '_')}.nii.gz").dataobj)
        for name in REGIONS
    }
    assert np.array_equal(label_map == 4, inside["enhancing tumour"] > 0.5)
    for outer, inner in pairwise(REGIONS):
        written = np.isin(label_map, VALUES[outer])
        assert np.array_equal(written, (inside[outer] > 0.5) | np.isin(label_map, VALUES[inner]))
    uncertainty = np.asarray(nibabel.load(masks / "uncertainty" / "new.nii.gz").dataobj)
    assert 0 <= uncertainty.min() < 0.3 < uncertainty.max() <= 1
    medseg("evaluate", masks, tmp_path / "labelsTr", "-o", reports)
    metrics = json.loads((reports / "metrics.json").read_text())
    assert set(metrics["summary"]["labels"]) == set(REGIONS)
    assert min(values["dice"] for values in metrics["cases"]["new"].values()) >= 0.9
    assert set(metrics["calibration"]["labels"]) == set(REGIONS)


def test_a_run_goes_on_from_labels_to_regions_and_models_of_both_are_no_ensemble(
    prepared: Path, run: Path, tmp_path: Path
) -> None:
    said = train(prepared, tmp_path / "labels", "training.outputs=labels", *SHORT)
    assert "learns regions" not in said
    labels = "background", "label_1", "label_2", "enhancing tumour"
    assert read_model_record(tmp_path / "labels" / "model").outputs == labels
    said = train(prepared, tmp_path / "regions", f"training.init={tmp_path / 'labels'}", *SHORT)
    assert "outputs of new labels stay random: whole tumour, tumour core, enhancing tumour" in " ".join(said.split())
    with pytest.raises(ModelError, match="has learnt other regions than the first model, or labels one by one"):
        load_model([run, tmp_path / "labels"], choose_device("cpu"))
