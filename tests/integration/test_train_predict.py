"""The whole way on a small dataset: prepare, train, be killed, resume, predict, evaluate."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import medseg
from medseg.config import Config, load
from medseg.dataset.patches import Batch
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError, SourceError, TrainingError
from medseg.io.read import read_segmentation
from medseg.training.trainer import Trainer

# A tiny network that learns the two balls within a hundred steps.
SMALL = [
    "planning.cpu_base_features=8",
    "training.batch_size=2",
    "training.steps_per_epoch=20",
    "training.learning_rate=1e-2",
    "training.seed=7",
    "augmentation.mirror=all",  # for prediction to average over
]


def settings(*overrides: str) -> Config:
    return load(overrides=[*SMALL, *overrides])


def flags(*overrides: str) -> list[str]:
    return [flag for override in [*SMALL, *overrides] for flag in ("--set", override)]


@pytest.fixture(scope="module")
def run(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "unrelated.txt").touch()  # an existing folder is fine as long as it holds no run
    result = medseg.train(prepared.folder, folder, config=settings("training.epochs=5"), device="cpu")
    assert result.finished
    assert result.steps == 100
    return folder


def test_a_network_learns_and_everything_is_written(run: Path, prepared: PreparedDataset) -> None:
    metrics = json.loads((run / "validation" / "metrics.json").read_text())
    assert metrics["summary"]["over_labels"]["dice"]["mean"] > 0.8
    rows = list(csv.DictReader((run / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(20, 101, 20))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    for name in ("config.yaml", "progress.png", "checkpoint/last.safetensors", "model/weights.safetensors",
                 "model-last/model.json", "validation/predictions.json"):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert list((run / "events").glob("events.out.tfevents.*"))
    model = json.loads((run / "model" / "model.json").read_text())
    assert model["provenance"]["training_cases"] == 4
    assert model["metrics"]["validation"]["over_labels"]["dice"]["mean"] > 0.8


@pytest.mark.slow
def test_python_returns_what_the_command_writes(run: Path, blobs: Path, tmp_path: Path) -> None:
    kept = medseg.predict(run, blobs / "images", device="cpu")
    command = [
        sys.executable,
        "-m",
        "medseg",
        "predict",
        run,
        blobs / "images",
        "-o",
        tmp_path,
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "predictions.json").read_text())
    assert [case["case_id"] for case in record["cases"]] == [p.case_id for p in kept.predictions]
    for prediction in kept.predictions:
        source = nibabel.load(blobs / "images" / f"{prediction.case_id}.nii.gz")
        written = nibabel.load(tmp_path / f"{prediction.case_id}.nii.gz")
        assert np.array_equal(np.asarray(written.dataobj), prediction.label_map.label_map)
        assert np.array_equal(written.affine, source.affine)
        assert set(np.unique(written.dataobj)) <= {0, 2, 5}


def test_mirroring_and_overlap_are_options_of_prediction(run: Path, blobs: Path) -> None:
    image = blobs / "images" / "blob_00.nii.gz"
    plain = medseg.predict(run, image, device="cpu").predictions[0].label_map.label_map
    mirrored = medseg.predict(run, image, device="cpu", mirror=True, overlap=0.25).predictions[0].label_map.label_map
    reference = np.asarray(nibabel.load(blobs / "labels" / "blob_00.nii.gz").dataobj)
    for mask in (plain, mirrored):
        assert 2 * ((mask > 0) & (reference > 0)).sum() / ((mask > 0).sum() + (reference > 0).sum()) > 0.9
    assert not np.array_equal(plain, mirrored)


@pytest.mark.slow
def test_the_2d_network_of_the_same_dataset(prepared: PreparedDataset, tmp_path: Path) -> None:
    config = settings("training.epochs=8", "training.batch_size=8")
    result = medseg.train(prepared.folder, tmp_path / "run", dims=2, config=config, device="cpu")
    assert result.evaluation is not None
    assert result.evaluation.summary.over_labels["dice"].mean > 0.75


def weights(run: Path) -> dict[str, np.ndarray]:
    loaded: dict[str, np.ndarray] = load_file(run / "checkpoint" / "last.safetensors")
    return loaded


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(
    prepared: PreparedDataset, tmp_path: Path, run: Path
) -> None:
    """Killed without warning: the checkpoint is the one of the last epoch that wrote it."""
    folder = tmp_path / "run"
    # Checkpoints are half a minute apart; here each epoch writes one, so that there is something to be killed after.
    code = (
        "import medseg.training.callbacks.checkpoint as t, sys; t.SECONDS_BETWEEN_CHECKPOINTS = 0.0\n"
        "from medseg.cli.main import main; sys.argv[0] = 'medseg'; main()"
    )
    command = [sys.executable, "-c", code, "train", prepared.folder, "-o", folder, "--device", "cpu"]
    process = subprocess.Popen([*command, *flags("training.epochs=5")], stderr=subprocess.PIPE, text=True)
    wait_for(folder / "checkpoint" / "last.safetensors", process)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert not (folder / "validation").exists()
    refused = subprocess.run([*command, *flags("training.epochs=5")], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1
    assert "holds a run already; go on with it by --resume" in " ".join(refused.stderr.split())
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming at step" in resumed.stderr
    unbroken, again = weights(run), weights(folder)
    assert unbroken.keys() == again.keys()
    assert all(np.array_equal(unbroken[name], again[name]) for name in unbroken)
    assert [row["step"] for row in csv.DictReader((folder / "log.csv").open())] == [str(n) for n in range(20, 101, 20)]


@pytest.mark.slow
def test_an_interrupted_run_writes_a_checkpoint(prepared: PreparedDataset, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "medseg",
        "train",
        prepared.folder,
        "-o",
        tmp_path / "run",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen([*command, *flags("training.epochs=500")], stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "run" / "log.csv", process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    assert (tmp_path / "run" / "checkpoint" / "last.safetensors").is_file()


def test_an_interrupted_run_does_not_validate_before_its_checkpoint(
    prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted, learn = threading.Event(), Trainer._learn

    def learn_and_interrupt(self: Trainer, batch: Batch, step: int, rate: float) -> Any:
        if step == 1:
            interrupted.set()
        return learn(self, batch, step, rate)

    monkeypatch.setattr(Trainer, "_learn", learn_and_interrupt)
    monkeypatch.setattr("medseg.training.trainer.interruptible", lambda _team: nullcontext(interrupted.is_set))
    monkeypatch.setattr("medseg.training.callbacks.validation.validate", lambda *_: pytest.fail("validated"))
    result = medseg.train(prepared.folder, tmp_path / "run", config=settings(), device="cpu")
    assert (result.finished, result.steps) == (False, 2)
    assert (tmp_path / "run" / "checkpoint" / "last.safetensors").is_file()


def test_a_checkpoint_comes_with_each_validation(
    prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run killed between the two would write a worse model over the best one after its resume."""

    def killed(*_: object) -> None:
        raise SystemExit("killed")

    monkeypatch.setattr("medseg.training.callbacks.journal.Journal.draw", lambda _: None)
    monkeypatch.setattr(
        "medseg.training.callbacks.validation.Validation.is_due", lambda _, trainer: trainer.state.step <= 20
    )
    learn = Trainer._learn
    monkeypatch.setattr(Trainer, "_learn", lambda self, *args: learn(self, *args) if args[1] < 20 else killed())
    with pytest.raises(SystemExit):
        medseg.train(prepared.folder, tmp_path / "run", config=settings(), device="cpu")
    assert (tmp_path / "run" / "model" / "model.json").is_file()
    with safe_open(tmp_path / "run" / "checkpoint" / "last.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["progress"])["best_score"] is not None


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.slow
def test_max_time_is_kept(prepared: PreparedDataset, tmp_path: Path) -> None:
    start = time.monotonic()
    config = settings("training.max_time=15s")
    result = medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    assert result.finished
    assert result.steps > 10
    # Twice: the machine may be busy, and what is tested is that the clock rules at all.
    assert 5 < time.monotonic() - start < 30


def test_fewer_cases_are_validated_where_time_is_short(
    prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medseg.training.time_shares.seconds_of", lambda work: 0.5)
    config = settings("training.max_time=3s", "training.folds=2", "training.fit_to_time=false")
    result = medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    held_back = len(json.loads((tmp_path / "run" / "run.json").read_text())["validation"])
    assert result.evaluation is not None
    validated = {record.case_id for record in result.evaluation.records}
    assert held_back > len(validated) == 2
    assert f"so {len(validated)} of them are validated" in " ".join(capfd.readouterr().err.split())


def test_no_time_for_a_single_step_is_told(
    prepared: PreparedDataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = settings("training.max_time=0.001")
    assert medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu").steps == 0
    assert "learnt nothing; give a longer --max-time" in " ".join(capfd.readouterr().err.split())


def test_a_monai_transform_by_name_takes_part_in_training(prepared: PreparedDataset, tmp_path: Path) -> None:
    spec = "augmentation.transforms=[{name: RandGaussianSharpend, keys: [image], prob: 1.0}]"
    config = settings("training.epochs=1", spec)
    result = medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    assert result.steps == 20
    wrong = settings("augmentation.transforms=[{name: RandGausianSharpend, keys: [image]}]")
    with pytest.raises(ConfigError, match="RandGaussianSharpend"):
        medseg.train(prepared.folder, tmp_path / "wrong", config=wrong, device="cpu")


def test_files_that_are_gone_are_told_before_training(prepared: PreparedDataset, blobs: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared.folder, tmp_path / "moved")
    record = tmp_path / "moved" / "dataset.json"
    record.write_text(record.read_text().replace(str(blobs.resolve()), "/nowhere"))
    with pytest.raises(SourceError, match=r"/nowhere/images/blob_\d\d.nii.gz: is gone"):
        medseg.train(tmp_path / "moved", tmp_path / "run", config=settings("training.epochs=1"), device="cpu")
    assert not (tmp_path / "run" / "run.json").exists()


def test_wrong_use_is_refused(prepared: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run; 'medseg train' begins one"):
        medseg.train(prepared.folder, tmp_path / "none", resume=True)
    with pytest.raises(ConfigError, match="did you mean 'unet'"):
        medseg.train(prepared.folder, tmp_path / "a", config=load(overrides=["network.name=unett"]), device="cpu")
    assert not (tmp_path / "a" / "run.json").exists()  # the folder is free for the next try
    with pytest.raises(ConfigError, match="network.features has 1 numbers"):
        medseg.train(prepared.folder, tmp_path / "a", config=load(overrides=["network.features=[8]"]), device="cpu")


def test_a_wider_tolerance_holds_until_the_final_evaluation(blobs: Path, tmp_path: Path) -> None:
    """Label maps a fifth of a voxel off: refused as they are, accepted on demand, and then to the end."""
    source = tmp_path / "shifted"
    shutil.copytree(blobs, source)
    for path in (source / "labels").iterdir():
        label = nibabel.load(path)
        affine = label.affine.copy()
        affine[0, 3] += 0.2
        nibabel.save(nibabel.Nifti1Image(np.asarray(label.dataobj), affine), path)
    with pytest.raises(SourceError, match="no case is left"):
        medseg.preprocess(source, tmp_path / "refused", config=settings("preprocessing.workers=1"))
    config = settings("preprocessing.workers=1", "preprocessing.geometry_tolerance=0.5", "training.epochs=1")
    medseg.preprocess(source, tmp_path / "prepared", config=config)
    result = medseg.train(tmp_path / "prepared", tmp_path / "run", config=config, device="cpu")
    assert result.evaluation is not None
    assert not result.evaluation.problems
    assert len(result.evaluation.records) == 4


def test_regions_go_from_the_dataset_to_the_masks(blobs: Path, tmp_path: Path) -> None:
    """As nnU-Net writes them: 5 is a part of the whole, and no structure by itself."""
    source = tmp_path / "Dataset007_Blobs"
    for mine, theirs in (("images", "imagesTr"), ("labels", "labelsTr")):
        (source / theirs).mkdir(parents=True)
        for path in sorted((blobs / mine).iterdir())[:3]:
            name = path.name.replace(".nii.gz", "_0000.nii.gz") if mine == "images" else path.name
            shutil.copy(path, source / theirs / name)
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "whole": [2, 5], "shell": 2},
        "structures": {
            "whole": {"colour": [1, 2, 3], "type": {"scheme": "SCT", "value": "4147007", "meaning": "Mass"}}
        },
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (source / "dataset.json").write_text(json.dumps(content))
    config = settings("preprocessing.workers=1", "training.epochs=1", "training.steps_per_epoch=3")
    medseg.preprocess(source, tmp_path / "prepared", config=config)
    medseg.train(tmp_path / "prepared", tmp_path / "run", config=config, device="cpu")
    image = blobs / "images" / "blob_00.nii.gz"
    result = medseg.predict(tmp_path / "run", image, tmp_path / "masks", device="cpu", formats=["nifti", "seg-nrrd"])
    assert [structure.name for structure in result.labels.structures] == ["shell", "whole"]
    (prediction,) = result.predictions
    segments = read_segmentation(tmp_path / "masks" / "blob_00.seg.nrrd")
    shell, whole = segments.segments
    assert (shell.name, whole.name, whole.colour, whole.type and whole.type.value) == (
        "shell",
        "whole",
        (1, 2, 3),
        "4147007",
    )
    label_map = prediction.label_map.label_map
    assert np.array_equal(segments.mask(whole), label_map > 0)
    assert np.array_equal(segments.mask(shell), label_map == 2)
    assert prediction.voxels == {"shell": (label_map == 2).sum(), "whole": (label_map > 0).sum()}
