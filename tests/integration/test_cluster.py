"""Cohorts on workers: processes of this machine, and jobs of a real SLURM with two nodes; both are killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest
import slurm
import torch
from model_records import record_of

from medseg.architecture import Architecture
from medseg.dataset.store import PreparedDataset
from medseg.inferers.model import save_model
from medseg.networks.registry import build_network
from medseg.plan import Grid, Normalization, Plan

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]
N_CASES = 60
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="module")
def cohort(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 hippocampi, of those that are here, each with a little noise of its own."""
    folder = tmp_path_factory.mktemp("cohort")
    found = sorted((real_data / "hippocampus").rglob("imagesTr/*.nii.gz")) or sorted(
        real_data.rglob("hippocampus_*.nii.gz")
    )
    random = np.random.default_rng(0)
    for number in range(N_CASES):
        image = nibabel.load(found[number % len(found)])
        noisy = np.asarray(image.dataobj, np.float32) + random.normal(0, 1, image.shape)
        nibabel.save(nibabel.Nifti1Image(noisy.astype(np.float32), image.affine), folder / f"case_{number:02d}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def predict(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """The command that predicts the cohort."""
    torch.manual_seed(0)
    grid = Grid(
        orientation="RAS", spacing=(1, 1, 1), crop_to_nonzero=True, normalization=(Normalization(kind="zscore"),)
    )
    architecture = Architecture(features=(4, 8), strides=((1,) * 3, (2,) * 3), kernel_sizes=((3,) * 3,) * 2)
    plan = Plan(dims=3, grid=grid, patch_size=(16, 16, 16), batch_size=2, slice_axis=None, architecture=architecture)
    model = tmp_path_factory.mktemp("model")
    save_model(model, record_of(plan, {"a": 1, "b": 2}, ("MR",)), build_network(1, 3, architecture).state_dict())
    medseg = [sys.executable, "-m", "medseg", "predict", str(model), str(cohort)]
    return lambda output, *more: [*medseg, "-o", str(output), "--backend", "torch", "--device", "cpu", *more]


def finished(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-3000:]
    return errors


def started(command: list[str], **more: str) -> subprocess.Popen[str]:
    environment = {**ENVIRONMENT, **more}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def n_masks(folder: Path) -> int:
    return len(list(folder.glob("*.nii.gz")))


def wait_for(condition: Callable[[], Any], seconds: float = 500) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def content(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    record = json.loads((folder / "predictions.json").read_text())
    for case in record["cases"]:
        for key in ("seconds", "stages", "peak_memory_mb"):
            case.pop(key)
    # What was being written when its process was killed stays, with a name that begins with a dot.
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.nii.gz")}, record


@pytest.fixture(scope="module")
def expected(predict: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process gives."""
    alone = tmp_path_factory.mktemp("alone")
    finished(started(predict(alone)))
    found = content(alone)
    assert len(found[0]) == N_CASES
    return found


def workers_of(process: int) -> list[psutil.Process]:
    children = psutil.Process(process).children(recursive=True)
    return [child for child in children if any("spawn_main" in word for word in child.cmdline())]


def test_processes_of_this_machine(predict: Callable[..., list[str]], expected: Any, tmp_path: Path) -> None:
    """A worker is killed; then the driver. A second call does what is missing."""
    masks = tmp_path / "masks"
    command = predict(masks, "--cluster", "local:2")
    driver = started(command)
    wait_for(lambda: n_masks(masks) > 5)
    workers_of(driver.pid)[0].kill()
    wait_for(lambda: n_masks(masks) > 20)
    workers = workers_of(driver.pid)
    driver.kill()
    driver.communicate()
    psutil.wait_procs(workers, timeout=60)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    done = n_masks(masks)
    told = finished(started(command))
    before = int(told.partition(" cases done before")[0].split()[-1])
    assert 0 < before <= done < N_CASES and before >= done - 4  # masks of which the account was under way
    assert content(masks) == expected


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[slurm.Slurm]:
    reason = slurm.is_missing()
    if reason:
        pytest.skip(reason)
    with slurm.running(tmp_path / "slurm") as nodes:
        yield nodes


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.yaml"
    path.write_text(
        f"jobs: 2\ncores: 1\nmemory: 1500MB\ntime: '00:50:00'\nfolder: {tmp_path / 'jobs'}\n"
        f"setup: ['export PYTHONPATH={REPOSITORY}']\n"
    )
    return path


def test_slurm(
    predict: Callable[..., list[str]], expected: Any, two_nodes: slurm.Slurm, jobs: Path, tmp_path: Path
) -> None:
    """One node is lost in the middle and comes back; the job on the other is cancelled, as at its time limit."""
    masks = tmp_path / "masks"
    command = predict(masks, "--cluster", f"slurm:{jobs}")
    environment = {"SLURM_CONF": str(two_nodes.folder / "slurm.conf")}
    driver = started(command, **environment)
    wait_for(lambda: n_masks(masks) > 5)
    assert {job.split()[2] for job in two_nodes.jobs()} == {"n1", "n2"}
    assert two_nodes.kill_node("n1")
    wait_for(lambda: n_masks(masks) > 20)
    two_nodes.start("n1")
    (job,) = [job.split()[0] for job in two_nodes.jobs() if job.endswith("n2")]
    two_nodes.call("scancel", "--signal=KILL", "--full", job)
    finished(driver)
    assert content(masks) == expected
    wait_for(lambda: not two_nodes.jobs())


TINY = ["planning.cpu_base_features=4", "training.batch_size=2", "training.steps_per_epoch=4", "training.folds=2"]


def weights(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(run.glob("model/fold_*/weights.safetensors"))]


def test_folds_of_a_training(prepared: PreparedDataset, two_nodes: slurm.Slurm, jobs: Path, tmp_path: Path) -> None:
    """One node is lost while both folds are trained; the ensemble is that of one process."""
    command = [sys.executable, "-m", "medseg", "train", str(prepared.folder), "--fold", "all", "--device", "cpu"]
    command += [part for setting in [*TINY, "training.epochs=6"] for part in ("--set", setting)]
    run, environment = tmp_path / "run", {"SLURM_CONF": str(two_nodes.folder / "slurm.conf")}
    driver = started([*command, "-o", str(run), "--cluster", f"slurm:{jobs}"], **environment)
    wait_for(lambda: all((run / f"fold_{i}" / "log.csv").is_file() for i in range(2)))
    two_nodes.kill_node("n1")
    two_nodes.start("n1")
    finished(driver)
    finished(started([*command, "-o", str(tmp_path / "alone")]))
    assert weights(run) == weights(tmp_path / "alone") and len(weights(run)) == 2
    assert (run / "validation" / "metrics.json").is_file()


def test_one_network_on_two_nodes(
    prepared: PreparedDataset, two_nodes: slurm.Slurm, jobs: Path, tmp_path: Path
) -> None:
    """torchrun under SLURM; the job is put back into the queue while it trains, and goes on."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "medseg", "train", str(prepared.folder), "-o", str(run), "--device", "cpu"]
    command += [part for setting in [*TINY, "training.epochs=12"] for part in ("--set", setting)]
    environment = {"SLURM_CONF": str(two_nodes.folder / "slurm.conf")}
    told = finished(started([*command, "--cluster", f"slurm:{jobs}", "--nodes", "2"], **environment))
    job = told.split("Job ")[1].split(";")[0]
    wait_for((run / "log.csv").is_file)
    two_nodes.call("scontrol", "requeue", job)
    wait_for((run / "report.html").is_file)
    wait_for(lambda: not two_nodes.jobs())
    log = (run / "train.log").read_text()
    assert log.count("Training ") >= 2, log
