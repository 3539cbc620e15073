"""Sparse annotation from preprocess to evaluate: ignored voxels, and cases in which not all labels were drawn."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.config import load
from medseg.dataset.patches import PatchSampler
from medseg.dataset.store import PreparedDataset
from medseg.inferers.model_record import read_model_record
from medseg.labels import IGNORED

BALL, CORE, IGNORE = 2, 5, 9
LEARN = [
    "preprocessing.workers=1",
    "planning.cpu_base_features=8",
    "training.batch_size=2",
    "training.steps_per_epoch=20",
    "training.epochs=6",
    "training.learning_rate=1e-2",
    "augmentation.mirror=all",  # few slices are annotated
]


def array_of(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.fixture(scope="module")
def sparse(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``blobs`` with 70 % of their coronal slices ignored; in every other case nobody looked for the core."""
    folder = tmp_path_factory.mktemp("sparse")
    (folder / "labels").mkdir()
    entries = []
    for i, path in enumerate(sorted((blobs / "labels").iterdir())):
        label_map = array_of(path).copy()
        if i % 2:
            label_map[label_map == CORE] = 0
        drawn = np.random.default_rng(i).permutation(label_map.shape[1])[: round(0.3 * label_map.shape[1])]
        label_map[:, np.setdiff1d(np.arange(label_map.shape[1]), drawn)] = IGNORE
        nibabel.save(nibabel.Nifti1Image(label_map, nibabel.load(path).affine), folder / "labels" / path.name)
        entry = {"image": str(blobs / "images" / path.name), "label": f"labels/{path.name}"}
        entries.append({**entry, "annotated": ["ball"]} if i % 2 else entry)
    labels = {"background": 0, "ball": BALL, "core": CORE, "ignore": IGNORE}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "training": entries}))
    return folder


@pytest.fixture(scope="module")
def dataset(sparse: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("prepared")
    medseg.preprocess(sparse, folder, config=load(overrides=LEARN))
    return PreparedDataset(folder)


def test_what_is_not_annotated_is_stored_and_told(sparse: Path, dataset: PreparedDataset, tmp_path: Path) -> None:
    arguments = ["preprocess", str(sparse), "-o", str(tmp_path), "--workers", "1"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000"}, catch_exceptions=False)
    assert "blob_00: 31.8% of the voxels are annotated" in done.stderr  # 7 of 22 slices
    assert "only ball annotated: 3 cases" in done.stderr
    case = dataset.cases["blob_01"]
    assert case.annotated == ("ball",)
    assert case.annotated_part == pytest.approx(7 / 22)
    assert set(case.volumes_ml) == {"ball"}
    assert dataset.is_annotated("blob_01").tolist() == [True, True, False]
    assert set(np.unique(dataset.label_map("blob_00"))) == {0, 1, 2, IGNORED}
    assert set(np.unique(dataset.label_map("blob_01"))) == {0, 1, IGNORED}


def test_patches_are_centred_on_what_is_annotated(dataset: PreparedDataset) -> None:
    plan = dataset.plans.plan_3d
    assert plan is not None
    plan = plan.model_copy(update={"patch_size": (1, 1, 1)})
    sampler = PatchSampler(dataset.subset(["blob_00", "blob_01"]), plan, batch_size=2, foreground_fraction=0, seed=0)
    batches = [sampler.batch(step) for step in range(40)]
    values = torch.cat([batch.label.flatten() for batch in batches])
    assert IGNORED not in values
    assert len(values.unique()) > 1
    rows = [row for batch in batches if batch.annotated is not None for row in batch.annotated.tolist()]
    ids = [case_id for batch in batches for case_id in batch.case_ids]
    assert all(row == [True, True, case_id == "blob_00"] for row, case_id in zip(rows, ids, strict=True))


@pytest.mark.slow
def test_a_network_learns_from_it(dataset: PreparedDataset, blobs: Path, tmp_path: Path) -> None:
    result = medseg.train(dataset.folder, tmp_path / "run", config=load(overrides=LEARN), device="cpu")
    assert result.evaluation is not None
    of_case = {record.case_id: set() for record in result.evaluation.records}
    for record in result.evaluation.records:
        of_case[record.case_id].add(record.label)
    assert of_case == {
        case_id: {"ball"} if dataset.cases[case_id].annotated else {"ball", "core"} for case_id in of_case
    }
    page = (tmp_path / "run" / "validation" / "report.html").read_text()
    assert f"has the value {IGNORE} were not annotated" in page
    masks = medseg.predict(tmp_path / "run", blobs / "images", tmp_path / "masks", device="cpu")
    assert read_model_record(tmp_path / "run" / "model").labels.ignore == IGNORE
    for prediction in masks:
        assert set(np.unique(prediction.label_map.label_map)) <= {0, BALL, CORE}
    whole = medseg.evaluate(tmp_path / "masks", blobs / "labels", workers=1)
    assert {name: label.cases for name, label in whole.summary.labels.items()} == {"ball": 6, "core": 6}
    for label in whole.summary.labels.values():
        assert (label.metrics["dice"].mean or 0) > 0.8


def test_a_loss_of_monai_learns_from_it_too(dataset: PreparedDataset, tmp_path: Path) -> None:
    """Cases in which some labels were annotated, and voxels that are ignored, at once."""
    of_monai = ["loss.name=monai.DiceLoss", f"loss.arguments={{ignore_index: {IGNORED}}}", "training.epochs=3"]
    result = medseg.train(dataset.folder, tmp_path / "run", config=load(overrides=[*LEARN, *of_monai]), device="cpu")
    assert result.evaluation is not None
    with (tmp_path / "run" / "log.csv").open() as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]


def test_evaluation_leaves_out_what_the_references_ignore(sparse: Path, blobs: Path, tmp_path: Path) -> None:
    """Predictions that are right where somebody looked, and only there."""
    for path in sorted((sparse / "labels").iterdir()):
        label_map = array_of(path).copy()
        label_map[label_map == IGNORE] = BALL
        nibabel.save(nibabel.Nifti1Image(label_map, nibabel.load(path).affine), tmp_path / path.name)
    found = medseg.evaluate(tmp_path, sparse, workers=1)
    assert {record.values["dice"] for record in found.records} == {1.0}
    assert {record.label for record in found.records if record.case_id == "blob_01"} == {"ball"}
    plain = CliRunner().invoke(
        app,
        ["evaluate", str(tmp_path), str(sparse / "labels"), "--ignore-value", str(IGNORE), "--workers", "1", "--json"],
    )
    summary = json.loads(plain.stdout)["summary"]["labels"]
    assert {name: label["metrics"]["dice"]["mean"] for name, label in summary.items()} == {
        "ball": 1.0,  # named in the dataset.json above the references
        "core": 1.0,
    }
    against_all = medseg.evaluate(tmp_path, blobs / "labels", workers=1)
    assert (against_all.summary.over_labels["dice"].mean or 0) < 0.7
