"""Runs that are killed, made longer, go wrong, begin with another model, or are only forecast."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

import medseg
from medseg.config import Config, load
from medseg.dataset.patches import Batch
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError, TrainingError
from medseg.training.state import TrainingState
from medseg.training.trainer import Trainer
from medseg.workflows.forecast import forecast

TINY = ["network.features=[4,8,8]", "training.batch_size=2", "training.steps_per_epoch=10", "training.seed=3"]


def settings(*overrides: str) -> Config:
    return load(overrides=[*TINY, *overrides])


def log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def weights(run: Path) -> dict[str, np.ndarray]:
    loaded: dict[str, np.ndarray] = load_file(run / "checkpoint" / "last.safetensors")
    return loaded


def assert_equal_weights(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def run(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    medseg.train(prepared.folder, folder, config=settings("training.epochs=2"), device="cpu")
    return folder


# Each epoch writes a checkpoint, and the loss is no number at step 45 while the learning rate is the first one.
SABOTAGED = """
import sys, torch
import medseg.training.callbacks.checkpoint as checkpoint
from medseg.cli.main import main
from medseg.training.state import TrainingState
from medseg.training.trainer import Trainer
from medseg.workflows.forecast import forecast
checkpoint.SECONDS_BETWEEN_CHECKPOINTS = 0.0
learn = Trainer._learn
def sabotaged(self, batch, step, rate):
    loss, *rest = learn(self, batch, step, rate)
    return (loss * float("nan") if step == 45 and self.schedule.factor == 1 else loss, *rest)
Trainer._learn = sabotaged
sys.argv[0] = "medseg"
main()
"""


@pytest.mark.slow
def test_a_run_killed_five_times_ends_with_the_weights_of_an_unbroken_one(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    """Also where the watchdog went back on the way."""
    flags = [flag for override in [*TINY, "training.epochs=12"] for flag in ("--set", override)]

    def command(folder: Path, *options: str) -> list[str]:
        return [sys.executable, "-c", SABOTAGED, "train", str(prepared.folder), "-o", str(folder), *options]

    subprocess.run(command(tmp_path / "unbroken", *flags), check=True, timeout=300, capture_output=True)
    moments = random.Random(5)
    killed, options = tmp_path / "killed", flags
    for target in sorted(moments.randrange(0, 110) for _ in range(5)):
        process = subprocess.Popen(command(killed, *options), stderr=subprocess.DEVNULL)
        wait_for_step(killed, target, process)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        options = ["--resume"] if (killed / "run.json").exists() else flags
    subprocess.run(command(killed, *options), check=True, timeout=300, capture_output=True)
    assert_equal_weights(tmp_path / "unbroken", killed)
    steps = [row["step"] for row in log(killed)]
    assert steps == [row["step"] for row in log(tmp_path / "unbroken")] == [str(n) for n in range(10, 121, 10)]
    model = json.loads((killed / "model-last" / "model.json").read_text())
    assert len(model["provenance"]["watchdog"]) == 1


def wait_for_step(run: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 200
    while not (run / "log.csv").is_file() or int((log(run) or [{"step": "0"}])[-1]["step"]) < step:
        if process.poll() is not None:
            return
        assert time.monotonic() < end, f"step {step} was not reached"
        time.sleep(0.02)


def test_a_finished_run_is_made_longer_without_a_jump(run: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    last = json.loads((folder / "model-last" / "model.json").read_text())["provenance"]["steps"]
    longer = load(overrides=["training.epochs=4"])
    result = medseg.train(prepared.folder, folder, config=longer, device="cpu", resume=True)
    assert (last, result.steps) == (20, 40)
    rates = [float(row["learning_rate"]) for row in log(folder)]
    assert rates[1] < 0.001  # at the end of the first schedule; 0.005 where the longer one has it
    assert rates[2] < 0.005
    again = medseg.train(prepared.folder, folder, device="cpu", resume=True)
    assert again.steps == 40  # the new length has been kept
    with pytest.raises(ConfigError, match="training.seed: a run is resumed with its own settings"):
        medseg.train(prepared.folder, folder, config=load(overrides=["training.seed=4"]), device="cpu", resume=True)


@pytest.mark.slow
def test_going_on_after_another_length_begins_where_the_rate_was(
    run: Path, prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rates, learn = tmp_path / "run", [], Trainer._learn
    shutil.copytree(run, folder)

    def record(self: Trainer, batch: Batch, step: int, rate: float) -> object:
        rates.append(rate)
        return learn(self, batch, step, rate)

    monkeypatch.setattr(Trainer, "_learn", record)
    medseg.train(prepared.folder, folder, config=load(overrides=["training.epochs=30"]), device="cpu", resume=True)
    before = float(log(run)[-1]["learning_rate"])
    assert rates[0] == pytest.approx(before, rel=1e-3)
    assert max(abs(b - a) for a, b in zip([before, *rates], rates, strict=False)) < 0.0006


@pytest.mark.slow
def test_no_numbers_lower_the_rate_and_are_told(
    prepared: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    learn = Trainer._learn

    def sabotaged(self: Trainer, batch: Batch, step: int, rate: float) -> object:
        loss, *rest = learn(self, batch, step, rate)
        return (loss * float("nan") if step == 15 and self.schedule.factor > 0.2 else loss, *rest)

    monkeypatch.setattr(Trainer, "_learn", sabotaged)
    config = settings("training.epochs=3")
    result = medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    assert (result.finished, result.steps) == (True, 30)
    told = " ".join(capfd.readouterr().err.split())
    assert "Back to step 10 from 10: the loss is not a number at step 15 (cases blob_" in told
    notes = [row["note"] for row in log(tmp_path / "run")]
    assert "learning rate to a third (change 2 of at most 3)" in notes[1]
    assert [row["step"] for row in log(tmp_path / "run")] == ["10", "20", "30"]
    monkeypatch.setattr(Trainer, "_learn", lambda *args: (torch.tensor(float("nan")), *learn(*args)[1:]))
    with pytest.raises(TrainingError, match=r"the loss is not a number at step 0 \(cases blob_"):
        medseg.train(prepared.folder, tmp_path / "hopeless", config=config, device="cpu")


def test_a_damaged_image_is_named_and_left_out(
    prepared: PreparedDataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(prepared.folder, tmp_path / "prepared")
    training = json.loads((tmp_path / "prepared" / "dataset.json").read_text())["cases"]
    config = settings("training.epochs=1")
    medseg.train(tmp_path / "prepared", tmp_path / "before", config=config, device="cpu")
    held_back = json.loads((tmp_path / "before" / "run.json").read_text())["validation"]
    damaged = next(case["case_id"] for case in training if case["case_id"] not in held_back)
    path = tmp_path / "prepared" / "cases" / damaged / "image.npy"
    image = np.load(path)
    image[:, ::3] = np.nan
    np.save(path, image)
    result = medseg.train(tmp_path / "prepared", tmp_path / "run", config=config, device="cpu")
    assert (result.finished, result.steps) == (True, 10)
    assert f"{damaged}: the image holds what is no number; left out of training" in " ".join(
        capfd.readouterr().err.split()
    )
    model = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert model["provenance"]["training_cases"] == len(training) - len(held_back) - 1


@pytest.mark.slow
def test_all_folds_make_an_ensemble_and_masks_of_all_cases(prepared: PreparedDataset, tmp_path: Path) -> None:
    config = settings("training.fold=all", "training.folds=3", "training.epochs=1")
    result = medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    assert result.evaluation is not None
    cases = sorted(prepared.cases)
    assert sorted({record.case_id for record in result.evaluation.records}) == cases
    masks = {path.name for path in (tmp_path / "run" / "validation").glob("*.nii.gz")}
    assert masks == {f"{case_id}.nii.gz" for case_id in cases}
    splits = [json.loads(path.read_text())["validation"] for path in (tmp_path / "run").glob("fold_*/run.json")]
    assert sorted(case_id for split in splits for case_id in split) == cases
    image = prepared.image_paths(cases[0])[0]
    together = medseg.predict(tmp_path / "run", image, device="cpu").predictions[0].label_map.label_map
    folds = [tmp_path / "run" / f"fold_{i}" for i in range(3)]
    listed = medseg.predict(folds, image, device="cpu").predictions[0].label_map.label_map
    alone = [medseg.predict(fold, image, device="cpu").predictions[0].label_map.label_map for fold in folds]
    assert np.array_equal(together, listed)
    assert not all(np.array_equal(together, mask) for mask in alone)
    again = medseg.train(prepared.folder, tmp_path / "run", device="cpu", resume=True)
    assert again.steps == result.steps == 30
    longer = load(overrides=["training.epochs=2"])
    assert medseg.train(prepared.folder, tmp_path / "run", config=longer, device="cpu", resume=True).steps == 60


def test_a_run_begins_with_another_model(
    run: Path, prepared: PreparedDataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides = ["training.batch_size=2", "training.steps_per_epoch=1", "training.epochs=1", f"training.init={run}"]
    medseg.train(prepared.folder, tmp_path / "run", config=load(overrides=overrides), device="cpu")
    assert "tensors of weights fit" in " ".join(capfd.readouterr().err.split())
    begun, before = weights(tmp_path / "run"), load_file(run / "model" / "weights.safetensors")
    distance = max(float(np.abs(begun[f"network.{name}"] - tensor).max()) for name, tensor in before.items())
    assert 0 < distance < 0.02  # one step of AdamW away
    with pytest.raises(ConfigError, match="is a 3D model; leave --dims out"):
        medseg.train(prepared.folder, tmp_path / "2d", dims=2, config=load(overrides=overrides), device="cpu")


def test_patience_ends_a_run(
    prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medseg.training.callbacks.validation.Validation.is_due", lambda *_: True)
    # Weights that stay as they are to the last bit, so that rounding makes no Dice better.
    unchanging = ["training.learning_rate=1e-30", "training.average_decay=0"]
    config = settings("training.epochs=50", "training.patience=2", *unchanging)
    result = medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    assert (result.finished, result.steps) == (True, 30)
    assert "No better validation Dice in 2 validations: stopping early" in " ".join(capfd.readouterr().err.split())


def test_a_dry_run_forecasts_and_writes_nothing(run: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    one = forecast(prepared.folder, tmp_path / "run", config=settings("training.epochs=7"), device="cpu")
    assert one.steps == 70
    steps, once = 70 * one.step_seconds, one.validation_seconds / 2
    assert one.training_seconds == pytest.approx(steps + min(7 * once, once + 0.1 * steps))
    assert not (tmp_path / "run").exists()
    stored = sum(path.stat().st_size for path in run.glob("*/*.safetensors")) / 2**20
    assert stored * 0.9 < one.disk_mb < stored * 2.5
    config = settings("training.max_time=50s", "training.fold=all", "training.folds=3")
    every = forecast(prepared.folder, tmp_path / "run", config=config, device="cpu")
    assert every.steps is None
    assert every.training_seconds + every.validation_seconds == pytest.approx(50, rel=0.2)
    assert every.disk_mb > 2 * one.disk_mb
    with pytest.raises(TrainingError, match="holds a run already"):
        forecast(prepared.folder, run, config=settings(), device="cpu")


def test_the_best_weights_are_those_of_the_metric_that_is_named(
    prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.training.callbacks.validation.Validation.is_due", lambda *_: True)
    config = settings(
        "training.epochs=2", "training.metric=lesion_f1", "training.patience=5", "training.foreground_by=components",
        "training.foreground_fraction=1", "loss.name=cc-dice-ce", "training.fit_inference=false",
    )  # fmt: skip
    medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    rows = log(tmp_path / "run")
    f1 = [float(row["val_lesion_f1"]) for row in rows if row["val_lesion_f1"]]
    assert len(f1) == 2 and all(row["val_dice"] != row["val_lesion_f1"] for row in rows)
    with safe_open(tmp_path / "run" / "checkpoint" / "last.safetensors", framework="np") as file:
        progress = json.loads(file.metadata()["progress"])
    assert progress["best_score"] == pytest.approx(max(f1), abs=1e-5)
    model = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert model["metrics"]["validation_lesion_f1_on_model_grid"]


def test_checkpoints_of_older_versions_had_a_best_dice() -> None:
    assert TrainingState.model_validate({"step": 3, "best_dice": 0.5}).best_score == 0.5
