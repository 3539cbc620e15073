"""medseg compare on a small dataset: the table, going on where it was stopped, failures that stop nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import medseg
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError
from medseg.evaluation.network_comparison import NetworkComparison

pytestmark = pytest.mark.slow  # each training is a process of its own

TINY = ["planning.cpu_base_features=4", "training.batch_size=2", "training.steps_per_epoch=4", "training.epochs=2"]


@pytest.fixture(scope="module")
def compared(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> NetworkComparison:
    """unet with two seeds, and a network that cannot be built."""
    folder = tmp_path_factory.mktemp("compared")
    broken = folder / "broken.yaml"
    broken.write_text("network:\n  name: unet++\n  arguments: {head: 9}\n")
    return medseg.compare(prepared.folder, folder / "out", ["unet", broken], seeds=(0, 1), settings=TINY, device="cpu")


def test_what_was_measured_stands_in_every_table(compared: NetworkComparison) -> None:
    unet = compared.networks[0]
    assert (unet.network, unet.trainings, unet.steps, unet.problems) == ("unet", 2, 8, ())
    assert unet.dice.mean is not None and len(unet.dice.seeds) == 2 and unet.dice.cases == 2
    for amount in (unet.parameters, unet.samples_per_second, unet.prediction_seconds, unet.training_memory_mb):
        assert amount is not None and amount > 0
    content = json.loads((compared.folder / "comparison.json").read_text())
    assert content["networks"]["unet"]["dice"]["mean"] == unet.dice.mean
    assert content["statistics"]["seeds"] == {"unet": 2}
    rows = list(csv.DictReader((compared.folder / "comparison.csv").open()))
    assert float(rows[0]["dice"]) == unet.dice.mean
    assert f"| unet | {unet.dice.mean:.3f} (" in (compared.folder / "comparison.md").read_text()
    assert (compared.folder / "comparison.png").stat().st_size > 10_000


def test_a_network_that_fails_stops_nothing_and_says_why(compared: NetworkComparison) -> None:
    broken = compared.networks[1]
    assert (broken.trainings, broken.dice.mean, broken.parameters) == (0, None, None)
    assert len(broken.problems) == 2
    assert "network.arguments.head cannot be 9" in broken.problems[0]
    assert "broken failed: fold 0, seed 0" in (compared.folder / "comparison.md").read_text()


def test_finished_trainings_are_not_repeated_and_networks_can_be_added(
    compared: NetworkComparison, prepared: PreparedDataset
) -> None:
    weights = compared.folder / "runs" / "unet" / "fold_0_seed_0" / "model" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    again = medseg.compare(prepared.folder, compared.folder, ["unet", "unet-2015-padded"], settings=TINY, device="cpu")
    assert weights.stat().st_mtime_ns == before
    assert [each.trainings for each in again.networks] == [1, 1]
    assert again.statistics is not None
    assert set(again.statistics["metrics"]["dice"]["over_labels"]["standings"]) == {"unet", "unet-2015-padded"}


def test_runs_of_other_settings_are_refused(compared: NetworkComparison, prepared: PreparedDataset) -> None:
    with pytest.raises(ConfigError, match="was trained with training.epochs 2, not 3; choose another -o"):
        medseg.compare(prepared.folder, compared.folder, ["unet"], settings=[*TINY, "training.epochs=3"])
    with pytest.raises(ConfigError, match="did you mean 'unet"):
        medseg.compare(prepared.folder, compared.folder, ["unet+"], settings=TINY)
    with pytest.raises(ConfigError, match="name each network once"):
        medseg.compare(prepared.folder, compared.folder, ["unet", "unet"], settings=TINY)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupted_training_goes_on(prepared: PreparedDataset, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "medseg", "compare", str(prepared.folder), "-o", str(tmp_path)]
    for setting in TINY[:-1]:
        arguments += ["--set", setting]
    arguments += ["--network", "unet", "--device", "cpu", "--epochs", "60"]
    run = tmp_path / "runs" / "unet" / "fold_0_seed_0"
    process = subprocess.Popen(arguments)
    try:
        started = time.monotonic()
        while not (run / "log.csv").is_file() and time.monotonic() - started < 120:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert (run / "checkpoint" / "last.safetensors").is_file()
    assert not (run / "validation").exists()
    done = subprocess.run([*arguments, "--json"], capture_output=True, text=True, timeout=300, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["networks"]["unet"]["steps"] == 240
    assert "Resuming at step" in (run / "train.log").read_text()
