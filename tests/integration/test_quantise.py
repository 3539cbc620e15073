"""A trained network in int8: made, used, refused where it is not that of the weights, not kept where it costs Dice."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError, ModelError, TrainingError
from medseg.inferers.quantised import FOLDER, RECORD, read_quantised_record
from medseg.workflows import quantise as workflow

pytest.importorskip("nncf", reason="NNCF is not installed (medseg[int8])")


pytestmark = pytest.mark.slow  # a training, and what is quantised


@pytest.fixture(scope="module")
def trained(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    overrides = ["planning.cpu_base_features=8", "training.batch_size=2", "training.steps_per_epoch=20"]
    config = load(overrides=[*overrides, "training.epochs=4", "training.precision=fp32"])
    medseg.train(prepared.folder, run, config=config, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "LARGEST_LOSS", 0.01)  # of two cases, and a network of eight features
        medseg.quantise(run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_network_lies_beside_its_weights_and_costs_no_dice(run: Path) -> None:
    record = read_quantised_record(run / "model")
    assert record is not None and record.cases > 0
    assert record.dice_before > 0.7 and record.dice_before - record.dice <= 0.01


def test_predict_runs_it_and_its_labels_are_nearly_those_of_torch(run: Path, blobs: Path) -> None:
    image = next((blobs / "images").glob("*.nii.gz"))
    by_torch = medseg.predict(run, image, device="cpu", backend="torch").predictions[0].label_map.label_map
    by_int8 = medseg.predict(run, image, device="cpu", backend="int8").predictions[0].label_map.label_map
    assert np.mean(by_torch == by_int8) > 0.99
    assert (by_int8 > 0).any()


def test_it_travels_with_the_packaged_model(run: Path, blobs: Path, tmp_path: Path) -> None:
    packed = medseg.package(run, tmp_path / "model.zip")
    image = next((blobs / "images").glob("*.nii.gz"))
    assert medseg.predict(packed, image, device="cpu", backend="int8").predictions


def test_a_network_of_other_weights_is_not_used(run: Path, blobs: Path) -> None:
    image = next((blobs / "images").glob("*.nii.gz"))
    shutil.copyfile(run / "model-last" / "weights.safetensors", run / "model" / "weights.safetensors")
    path = run / "model" / FOLDER / RECORD
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(ConfigError, match="was not quantised with these weights; run 'medseg quantise RUN'"):
        medseg.predict(run, image, device="cpu", backend="int8")
    path.write_text("{")
    with pytest.raises(ModelError, match=r"network\.json: .*not JSON|network\.json: .*run 'medseg quantise' again"):
        medseg.predict(run, image, device="cpu", backend="int8")


def test_a_graph_that_cannot_be_read_leaves_torch_to_run(
    run: Path, blobs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((blobs / "images").glob("*.nii.gz"))
    (run / "model" / FOLDER / "network.xml").write_text("nothing")
    assert medseg.predict(run, image, device="cpu", backend="int8").predictions
    assert "--backend int8: cannot run this network" in " ".join(capsys.readouterr().err.split())


def test_what_costs_dice_is_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(run / "model" / FOLDER)
    monkeypatch.setattr(workflow, "LARGEST_LOSS", -1.0)
    with pytest.raises(ModelError, match="nothing was kept"):
        medseg.quantise(run)
    assert not (run / "model" / FOLDER).exists()


def test_each_network_of_an_ensemble_is_quantised(
    prepared: PreparedDataset, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["fold=all", "folds=2", "batch_size=2", "steps_per_epoch=20", "epochs=4", "precision=fp32"]
    config = load(overrides=["planning.cpu_base_features=8", *(f"training.{each}" for each in settings)])
    run = medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu").folder
    monkeypatch.setattr(workflow, "LARGEST_LOSS", 0.02)
    result = medseg.quantise(run)
    assert result.folders == tuple(run / "model" / f"fold_{i}" / FOLDER for i in range(2))
    image = next((blobs / "images").glob("*.nii.gz"))
    by_torch = medseg.predict(run, image, device="cpu", backend="torch").predictions[0].label_map.label_map
    by_int8 = medseg.predict(run, image, device="cpu", backend="int8").predictions[0].label_map.label_map
    assert np.mean(by_torch == by_int8) > 0.99
    assert (by_int8 > 0).any()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run"):
        medseg.quantise(tmp_path)
