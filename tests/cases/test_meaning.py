"""Cases of others that version 0.1 got wrong: what images and labels mean."""

import json
import runpy
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from model_records import record_of

import medseg
from medseg.architecture import Architecture
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.inferers.accumulator import Slab
from medseg.inferers.model import save_model
from medseg.inferers.model_record import read_model_record
from medseg.inferers.segmentation import SegmentationResult
from medseg.networks.registry import build_network
from medseg.plan import Grid, Normalization, Plan
from medseg.postprocessing.components import Rule
from medseg.prediction import case_segmentation

ONE_WORKER = load(overrides=["preprocessing.workers=1"])


def untrained(folder: Path, plan: Plan, prepared: PreparedDataset) -> Path:
    """A model of these data, as 'train' would begin it."""
    small = plan.model_copy(
        update={
            "architecture": plan.architecture.model_copy(update={"features": (4,) * len(plan.architecture.features)})
        }
    )
    record = record_of(small, prepared.labels, prepared.record.channels, usual_values=prepared.usual_values)
    network = build_network(len(record.channels), len(record.outputs), small.architecture)
    save_model(folder, record, network.state_dict())
    return folder


def test_04_ct_with_another_intercept(
    cases_that_go_wrong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = tmp_path / "04"
    shutil.copytree(cases_that_go_wrong / "04_ct_wrong_intercept", case)
    shutil.copy(cases_that_go_wrong / "mk.py", tmp_path)
    monkeypatch.chdir(case)
    monkeypatch.syspath_prepend(str(tmp_path))
    runpy.run_path("make_training.py")
    medseg.preprocess(case / "ct", tmp_path / "prepared", config=ONE_WORKER)
    prepared = PreparedDataset(tmp_path / "prepared")
    assert json.loads((prepared.folder / "fingerprint.json").read_text())["usual_values"][0]["cases"] == 8
    model = untrained(tmp_path / "model", prepared.plans.plan_2d, prepared)
    wrong = medseg.predict(model, "plus1024_uint16.nii.gz", tmp_path / "wrong").predictions[0]
    assert "CT: too many of its voxels are brighter than in training" in wrong.warnings[0]
    assert "air lies at -1000" in wrong.warnings[0]
    assert wrong.review is True
    (entry,) = json.loads((tmp_path / "wrong" / "predictions.json").read_text())["cases"]
    assert entry["warnings"][0] == entry["review_reasons"][0] == wrong.warnings[0]
    right = medseg.predict(model, "hu.nii.gz", tmp_path / "right").predictions[0]
    assert not [warning for warning in right.warnings if warning.startswith("CT")]
    assert right.review is None

    shutil.copy("plus1024_uint16.nii.gz", "ct/imagesTr/c9_0000.nii.gz")
    shutil.copy("reference_of_hu.nii.gz", "ct/labelsTr/c9.nii.gz")
    result = medseg.preprocess("ct", tmp_path / "with", config=ONE_WORKER)
    assert [warning.case_id for warning in result.warnings] == ["c9"]
    assert len(result.record.cases) == 9
    (finding,) = (each for each in medseg.inspect("ct", voxels=True, workers=1).findings if each.rule == "odd-values")
    assert (finding.case_id, finding.severity) == ("c9", "warning")


def test_05_postprocessing_that_drops_a_lesion(
    cases_that_go_wrong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a rule that an older version chose on two cases."""
    folder = cases_that_go_wrong / "05_postprocessing_drops_lesion"
    reference = (np.asarray(nibabel.load(folder / "reference.nii.gz").dataobj) == 1).astype(np.uint8)
    grid = Grid(
        orientation="RAS", spacing=(1, 1, 2), crop_to_nonzero=False, normalization=(Normalization(kind="zscore"),)
    )
    architecture = Architecture(features=(4, 8), strides=((1,) * 3, (2,) * 3), kernel_sizes=((3,) * 3,) * 2)
    plan = Plan(dims=3, grid=grid, patch_size=(8, 8, 8), batch_size=2, slice_axis=None, architecture=architecture)
    record = record_of(
        plan,
        {"lesion": 1},
        medseg="0.1.0",
        postprocessing=(Rule(label="lesion", largest_component=True),),
        metrics={"validation": {"labels": {"lesion": {"cases": 2}}}},
    )
    save_model(tmp_path / "model", record, build_network(1, 2, architecture).state_dict())

    def both_lesions(predictor, prepared, config, memory_plan, observers, watchers):  # type: ignore[no-untyped-def]
        logits = torch.zeros(*prepared.geometry.shape, 2)
        logits[..., 1] = torch.from_numpy(reference) * np.log(9) * 2 - np.log(9)  # probabilities of .9
        for watcher in watchers:
            watcher.take(Slab(logits, 2, 0, logits.shape[2], 0))
        return SegmentationResult(reference.copy(), 1, 0)

    monkeypatch.setattr(case_segmentation, "segment", both_lesions)
    image = folder / "two_lesions.nii.gz"
    one = medseg.predict(tmp_path / "model", image, tmp_path / "one").predictions[0]
    assert "chose that on 2 cases" in " ".join(capsys.readouterr().err.split())
    (warning,) = (each for each in one.warnings if "postprocessing" in each)
    assert "removed 1 component" in warning
    assert "probability 0.90 on average, 0.90 at most" in warning
    assert "--no-postprocessing" in warning
    assert warning in one.review_reasons
    (entry,) = json.loads((tmp_path / "one" / "predictions.json").read_text())["cases"]
    assert entry["postprocessed"][0]["removed_voxels"] == reference.sum() - one.voxels["lesion"]
    both = medseg.predict(tmp_path / "model", image, tmp_path / "one", postprocessing=False).predictions[0]
    assert both.voxels["lesion"] == reference.sum()  # and what was predicted with it isn't taken for done
    assert (both.changes, both.review) == ((), None)
    assert read_model_record(tmp_path / "model").postprocessing == record.postprocessing


def test_06_labels_that_vanish(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    source = cases_that_go_wrong / "06_labels_vanish" / "c1_tiny"
    result = medseg.preprocess(source, tmp_path / "prepared", config=ONE_WORKER)
    (warning,) = result.warnings
    assert warning.case_id == "c4"
    assert "all of it (3 voxels, 0.00075 ml) is gone on the model grid" in warning.message
    assert "--set preprocessing.spacing=[0.5,0.5,1]" in warning.message
    finer = load(overrides=["preprocessing.workers=1", "preprocessing.spacing=[0.5,0.5,1]"])
    assert medseg.preprocess(source, tmp_path / "finer", config=finer).warnings == ()


def test_13_one_voxel_beyond_all_others(cases_that_go_wrong: Path, tmp_path: Path) -> None:
    source = cases_that_go_wrong / "13_outlier" / "t4_outlier"
    result = medseg.preprocess(source, tmp_path / "prepared", config=ONE_WORKER)
    assert [warning.case_id for warning in result.warnings] == ["c0", "c1"]
    assert "1 voxel has an extreme value, up to 1e+30" in result.warnings[0].message
    prepared = PreparedDataset(tmp_path / "prepared")
    for case_id in prepared.cases:
        assert 0.9 < prepared.image(case_id).astype(np.float32).std() < 1.1
    findings = [each for each in medseg.inspect(source, voxels=True, workers=1).findings if each.severity == "warning"]
    assert [(each.case_id, each.rule) for each in findings] == [("c0", "extreme-values"), ("c1", "extreme-values")]
    plan = prepared.plans.plan_3d
    assert plan is not None
    model = untrained(tmp_path / "model", plan, prepared)
    predicted = medseg.predict(model, source / "images" / "c0.nii.gz", tmp_path / "masks").predictions[0]
    assert "1 voxel has an extreme value" in predicted.warnings[0]
    assert predicted.review is True
    empty = medseg.predict(model, cases_that_go_wrong / "14_small" / "zero.nii.gz", tmp_path / "masks").predictions[0]
    assert empty.warnings[0] == "image: it is constant: all its voxels have the value 0"
    assert empty.review_reasons[0] == empty.warnings[0]
