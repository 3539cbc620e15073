import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from model_records import record_of

import medseg
from medseg.evaluation.predictions_json import Predictions, read_predictions
from medseg.inferers.model import save_model
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Normalization, Plan
from medseg.prediction.predictions_file import PredictionsFile


@pytest.fixture
def model(tiny_plan: Plan, tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", tiny_plan, seed=0)


def write_model(folder: Path, plan: Plan, seed: int) -> Path:
    torch.manual_seed(seed)
    record = record_of(plan, {"a": 1, "b": 2}, ("MR",))
    save_model(folder, record, build_network(1, 3, plan.architecture).state_dict())
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).normal(size=(12, 11, 9)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), folder / f"case_{i}.nii.gz")
    return folder


def predicted(result: object) -> list[str]:
    return [prediction.case_id for prediction in result.predictions]  # type: ignore[attr-defined]


def test_a_second_call_does_what_is_missing(model: Path, images: Path, tmp_path: Path, tiny_plan: Plan) -> None:
    masks = tmp_path / "masks"
    call = {"device": "cpu", "backend": "torch"}
    assert len(predicted(medseg.predict(model, images, masks, **call))) == 3
    before = json.loads((masks / "predictions.json").read_text())
    (masks / "case_1.nii.gz").unlink()
    again = medseg.predict(model, images, masks, **call)
    assert (predicted(again), again.done_before) == (["case_1"], ("case_0", "case_2"))
    after = json.loads((masks / "predictions.json").read_text())
    assert sorted(case["case_id"] for case in after["cases"]) == ["case_0", "case_1", "case_2"]
    assert [c for c in after["cases"] if c["case_id"] == "case_0"] == before["cases"][:1]
    assert predicted(medseg.predict(model, images, masks, **call)) == []
    assert len(predicted(medseg.predict(model, images, masks, overwrite=True, **call))) == 3
    # What an image, a setting, a format or a model changes is predicted again.
    os.utime(images / "case_2.nii.gz", (1, 1))
    assert predicted(medseg.predict(model, images, masks, **call)) == ["case_2"]
    assert len(predicted(medseg.predict(model, images, masks, overlap=0.25, **call))) == 3
    assert len(predicted(medseg.predict(model, images, masks, formats=["seg-nrrd"], overlap=0.25, **call))) == 3
    write_model(model, tiny_plan, seed=1)
    assert len(predicted(medseg.predict(model, images, masks, **call))) == 3
    assert len(predicted(medseg.predict(model, images, masks, uncertainty=True, **call))) == 3
    assert (masks / "uncertainty" / "case_0.nii.gz").is_file()
    (masks / "predictions.json").write_text("{")
    assert len(predicted(medseg.predict(model, images, masks, **call))) == 3


def test_cases_of_earlier_calls_stay_accounted_for(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While their masks are there, and the same model and settings made them."""
    masks = tmp_path / "masks"

    def accounted(case: str, **settings: Any) -> list[str]:
        medseg.predict(model, images / f"{case}.nii.gz", masks, device="cpu", backend="torch", **settings)
        found = read_predictions(masks)
        assert found is not None and sorted(found.asked) == sorted(each.case_id for each in found.cases)
        return [each.case_id for each in found.cases]

    assert accounted("case_0") == ["case_0"]
    assert accounted("case_1") == ["case_0", "case_1"]
    assert accounted("case_0", overwrite=True) == ["case_1", "case_0"]
    (masks / "case_0.nii.gz").unlink()
    assert accounted("case_2") == ["case_1", "case_2"]
    assert "another model" not in capsys.readouterr().err
    assert accounted("case_2", overlap=0.25) == ["case_2"]
    told = capsys.readouterr().err
    assert "other settings, made the masks of 1 other case (case_1); they stay" in " ".join(told.split())
    assert (masks / "case_1.nii.gz").is_file()


def test_it_tells_how_many_windows_were_skipped(tiny_plan: Plan, tmp_path: Path) -> None:
    rule = Normalization(kind="ct", lower=-1000, upper=1000, mean=0, std=100)
    grid = tiny_plan.grid.model_copy(update={"normalization": (rule,)})
    model = write_model(tmp_path / "model", tiny_plan.model_copy(update={"grid": grid}), seed=0)
    scan = np.random.default_rng(0).normal(-900, 20, size=(60, 11, 9)).astype(np.float32)
    scan[40:] = 50
    nibabel.save(nibabel.Nifti1Image(scan, np.eye(4)), tmp_path / "scan.nii.gz")

    def told(**settings: bool) -> dict[str, Any]:
        medseg.predict(model, tmp_path / "scan.nii.gz", tmp_path / "masks", device="cpu", backend="torch", **settings)
        content = json.loads((tmp_path / "masks" / "predictions.json").read_text())
        case: dict[str, Any] = content["cases"][0]
        return case

    usual, all_asked, looked = told(), told(skip_air=False), told(first_look=True)
    assert 0 < usual["skipped_windows"] < usual["windows"]
    assert all_asked["windows"] == usual["windows"] and all_asked["skipped_windows"] < usual["skipped_windows"]
    assert any(warning.startswith("first look: ") for warning in looked["warnings"])
    assert not any(warning.startswith("first look: ") for warning in usual["warnings"])


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_a_case_its_output_is_missing_and_the_others_are_whole(
    model: Path, images: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    masks = tmp_path / "masks"
    # Hangs in the middle of the second case, when the first one, which is written meanwhile, is accounted for.
    script = f"""
        import pathlib, time
        from medseg.cli.main import main
        from medseg.prediction import case_segmentation, predictions_file
        predictions_file.SECONDS_BETWEEN_WRITES = 0
        segment = case_segmentation.segment
        def hanging(*args, calls=[]):
            calls.append(1)
            if len(calls) == 2:
                while not pathlib.Path({str(masks)!r}, "predictions.json").exists():
                    time.sleep(0.01)
                print("hanging", flush=True)
                time.sleep(60)
            return segment(*args)
        case_segmentation.segment = hanging
        import sys
        sys.argv = ["medseg", "predict", {str(model)!r}, {str(images)!r}, "-o", {str(masks)!r}, "--device", "cpu"]
        main()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(stop)
    process.communicate(timeout=30)
    time.sleep(0.1)
    assert [path.name for path in masks.glob("*.nii.gz")] == ["case_0.nii.gz"]
    assert nibabel.load(masks / "case_0.nii.gz").get_fdata().shape == (12, 11, 9)
    again = medseg.predict(model, images, masks, device="cpu")
    assert (predicted(again), again.done_before) == (["case_1", "case_2"], ("case_0",))


def test_a_file_without_cases_counts_for_nothing(tmp_path: Path) -> None:
    labels = Labels.from_names({"a": 1})
    (tmp_path / "predictions.json").write_text(json.dumps({"labels": labels.model_dump(mode="json")}))
    assert PredictionsFile(tmp_path, Predictions(labels=labels)).done_before([], [], []) == []


def test_the_record_reads_what_it_wrote_and_what_version_0_1_wrote(model: Path, images: Path, tmp_path: Path) -> None:
    result = medseg.predict(model, images, tmp_path, device="cpu")
    content = json.loads((tmp_path / "predictions.json").read_text())
    predictions = read_predictions(tmp_path)
    assert predictions is not None
    assert predictions.as_json() == content == result.record
    assert [case.case_id for case in predictions.cases] == [case["case_id"] for case in content["cases"]]
    assert {"cases", "labels", "medseg"} <= Predictions.model_json_schema()["properties"].keys()
    old = {
        "labels": content["labels"],
        "cases": [{"case_id": "a", "source": "a.nii", "masks": {"nifti": "a.nii.gz"}, "seconds": 1.5, "unknown": 1}],
        "problems": [],
    }
    (tmp_path / "predictions.json").write_text(json.dumps(old))
    before = read_predictions(tmp_path)
    assert before is not None and before.cases[0].seconds == 1.5
