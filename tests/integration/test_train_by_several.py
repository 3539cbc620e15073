"""One run by several processes, which torchrun starts: gloo, on a processor."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import medseg
from medseg.config import load
from medseg.dataset.store import PreparedDataset

# A batch that two cannot share evenly. Not AdamW: it makes steps of full size out of the rounding of gradients that are
# zero, as those of biases before a normalization.
SETTINGS = [
    "network.features=[4,8,8]", "training.batch_size=3", "training.steps_per_epoch=5", "training.epochs=2",
    "training.seed=3", "training.precision=fp32", "training.optimizer=sgd", "training.learning_rate=0.01",
    "training.validation_share=0.9",
]  # fmt: skip
FLAGS = [flag for override in SETTINGS for flag in ("--set", override)]

# In the seventh step, once the checkpoint of the fifth is written, a signal is sent.
SENDING = """
import os, signal, time
import medseg.training.callbacks.checkpoint as checkpoint
from medseg.cli.main import main
from medseg.training.trainer import Trainer
checkpoint.SECONDS_BETWEEN_CHECKPOINTS = 0.0
learn = Trainer._learn
def sending(self, batch, step, rate):
    if step == 6 and os.environ["RANK"] == "1":
        {send}
        time.sleep(5)
    return learn(self, batch, step, rate)
Trainer._learn = sending
main()
"""


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "NO_COLOR": "1"},
    )


def log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def assert_close_weights(one: Path, other: Path, tolerance: float = 5e-5) -> None:
    a, b = (load_file(run / "checkpoint" / "last.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    for name in (name for name in a if name.startswith(("network.", "average."))):
        np.testing.assert_allclose(a[name], b[name], atol=tolerance, rtol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def alone(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    medseg.train(prepared.folder, folder, config=load(overrides=SETTINGS), device="cpu")
    return folder


@pytest.mark.slow
def test_two_processes_reach_the_weights_of_one(alone: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = torchrun("-m", "medseg", "train", prepared.folder, "-o", run, "--device", "cpu", *FLAGS)
    assert ended.returncode == 0, ended.stderr
    assert_close_weights(alone, run)
    numbers = ("step", "train_loss", "grad_norm", "train_dice_label_2", "val_dice")
    for row, expected in zip(log(run), log(alone), strict=True):
        assert [float(row[name] or 0) for name in numbers] == pytest.approx(
            [float(expected[name] or 0) for name in numbers], rel=2e-3, abs=3e-4
        )
    # Told and written once.
    assert ended.stderr.count("epoch 2, step 10") == 1
    assert ended.stdout.count("bootstrap interval") == 1
    assert len(list((run / "events").iterdir())) == 1
    assert (run / "validation" / "metrics.json").is_file()


@pytest.mark.slow
def test_batch_normalization_is_that_of_the_whole_batch(prepared: PreparedDataset, tmp_path: Path) -> None:
    settings = [*SETTINGS, "network.name=unet-2015-padded", "training.epochs=1"]
    medseg.train(prepared.folder, tmp_path / "one", config=load(overrides=settings), device="cpu")
    flags = [flag for override in settings for flag in ("--set", override)]
    ended = torchrun("-m", "medseg", "train", prepared.folder, "-o", tmp_path / "two", "--device", "cpu", *flags)
    assert ended.returncode == 0, ended.stderr
    # Statistics of few voxels amplify rounding: the same samples in another order differ as much.
    assert_close_weights(tmp_path / "one", tmp_path / "two", tolerance=2e-4)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_one_process_goes_on_with_it(
    alone: Path, prepared: PreparedDataset, tmp_path: Path
) -> None:
    run, script = tmp_path / "run", tmp_path / "killed.py"
    script.write_text(SENDING.format(send="os.kill(os.getpid(), signal.SIGKILL)"))
    ended = torchrun(script, "train", prepared.folder, "-o", run, "--device", "cpu", *FLAGS)
    assert ended.returncode != 0
    assert "Error: another process of the run was lost" in ended.stderr
    assert [row["step"] for row in log(run)] == ["5"]
    result = medseg.train(prepared.folder, run, device="cpu", resume=True)
    assert (result.finished, result.steps) == (True, 10)
    assert_close_weights(alone, run)


@pytest.mark.slow
def test_sigterm_stops_all_at_one_step_with_a_checkpoint(
    alone: Path, prepared: PreparedDataset, tmp_path: Path
) -> None:
    run, script = tmp_path / "run", tmp_path / "stopped.py"
    script.write_text(SENDING.format(send="os.kill(os.getppid(), signal.SIGTERM)"))  # to torchrun
    ended = torchrun(script, "train", prepared.folder, "-o", run, "--device", "cpu", *FLAGS)
    assert ended.returncode != 0
    assert ended.stderr.count("Interrupted at step 7") == 1
    assert "was lost" not in ended.stderr
    ended = torchrun("-m", "medseg", "train", prepared.folder, "-o", run, "--device", "cpu", "--resume")
    assert ended.returncode == 0, ended.stderr
    assert_close_weights(alone, run)


@pytest.mark.slow
def test_what_the_first_process_refuses_all_refuse(alone: Path, prepared: PreparedDataset) -> None:
    ended = torchrun("-m", "medseg", "train", prepared.folder, "-o", alone, "--device", "cpu", *FLAGS)
    assert ended.returncode != 0
    assert "holds a run already" in ended.stderr
    assert "was lost" not in ended.stderr
