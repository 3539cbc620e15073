"""From held-back cases to rules in the model, and from the rules to what predict says."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from model_records import record_of
from typer.testing import CliRunner

import medseg
from medseg.cli.main import app
from medseg.evaluation.case import LabelMetrics
from medseg.inferers.model import save_model
from medseg.inferers.model_record import read_model_record
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.training.model_rules import learn_to_review

CASES = [f"case_{i}" for i in range(20)]


@pytest.fixture
def model(tiny_plan: Plan, tmp_path: Path) -> Path:
    record = record_of(tiny_plan, {"a": 1, "b": 2}, ("MR",))
    torch.manual_seed(0)
    save_model(tmp_path / "model", record, build_network(1, 3, tiny_plan.architecture).state_dict())
    return tmp_path / "model"


def evaluation(volume_ml: float) -> Any:
    """Of 20 held-back cases, in which both labels are as large."""
    values = {"dice": 0.9, "prediction_ml": volume_ml, "reference_ml": volume_ml}
    return SimpleNamespace(
        records=[
            LabelMetrics(case_id=case_id, label=label, status="found", values=values)
            for case_id in CASES
            for label in ("a", "b")
        ]
    )


def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(size=(12, 11, 9)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), folder / "new.nii.gz")
    return folder


def test_cases_to_review_are_told_with_their_reasons(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The images are of 1.2 ml: no label of them is as large as those of the held-back cases.
    learn_to_review(model, evaluation(volume_ml=50.0), {case_id: {"a": 0.95, "b": 0.95} for case_id in CASES})
    assert "of 20 held-back cases would be flagged" in " ".join(capsys.readouterr().err.split())
    source, masks = images(tmp_path), tmp_path / "masks"
    done = CliRunner().invoke(app, ["predict", str(model), str(source), "-o", str(masks), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "Review new: " in " ".join(done.output.split())
    (entry,) = json.loads((masks / "predictions.json").read_text())["cases"]
    assert entry["review"] is True
    assert entry["expected_dice"].keys() == entry["estimated_dice"].keys() <= {"a", "b"}
    (prediction,) = medseg.predict(model, source, device="cpu", backend="torch").predictions
    assert (list(prediction.review_reasons), prediction.review) == (entry["review_reasons"], True)
    assert any("times as large as usual" in reason for reason in prediction.review_reasons)
    # Rules of other cases are other settings: what was done before is done, and judged, again.
    learn_to_review(model, evaluation(volume_ml=0.5), {case_id: {"a": 0.01, "b": 0.01} for case_id in CASES})
    (again,) = medseg.predict(model, source, masks, device="cpu", backend="torch").predictions
    assert not any("estimated" in reason for reason in again.review_reasons)


def test_too_few_held_back_cases_leave_the_question_open(model: Path, tmp_path: Path) -> None:
    few = SimpleNamespace(records=evaluation(50.0).records[:6])
    learn_to_review(model, few, {})  # type: ignore[arg-type]
    assert read_model_record(model).review is None
    (prediction,) = medseg.predict(model, images(tmp_path), device="cpu", backend="torch").predictions
    assert (prediction.review, prediction.review_reasons, prediction.estimated_dice) == (None, (), {})
    assert prediction.expected_dice
