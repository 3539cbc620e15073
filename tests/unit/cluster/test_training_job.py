"""The job of a training: its script, and how it is submitted."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.cluster.training_job import TrainingCommand, job_script, submit
from medseg.config import Config
from medseg.errors import ConfigError, OutputError


@pytest.fixture
def command(tmp_path: Path) -> TrainingCommand:
    return TrainingCommand(tmp_path / "pre pared", tmp_path / "r'un", 3, Config(), "cuda")


@pytest.fixture
def jobs(tmp_path: Path) -> str:
    path = tmp_path / "jobs.yaml"
    path.write_text("cores: 16\ngpus: 4\nmemory: 64 GB\ntime: '08:00:00'\npartition: gpu\nsetup: [module load cuda]\n")
    return f"slurm:{path}"


def test_the_script_is_one_and_says_what_was_asked(command: TrainingCommand, jobs: str, tmp_path: Path) -> None:
    script = job_script(command, jobs, 2)
    (tmp_path / "job.sh").write_text(script)
    assert subprocess.run(["bash", "-n", str(tmp_path / "job.sh")], check=False).returncode == 0
    head = script.splitlines()[:20]
    for line in ("nodes=2", "cpus-per-task=16", "mem=64G", "gres=gpu:4", "partition=gpu", "requeue", "signal=TERM@120"):
        assert f"#SBATCH --{line}" in head
    assert "export OMP_NUM_THREADS=4\n" in script and "--nproc-per-node 4" in script and "module load cuda\n" in script


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_was_begun_goes_on(command: TrainingCommand, jobs: str, tmp_path: Path, begun: bool) -> None:
    """Programs of SLURM and torchrun are played: what they are called with is looked at."""
    for name, what in (("srun", 'printf "%s\\n" "$@" > "$CALLED"; exit 3'), ("hostname", "echo node1")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{what}\n")
        (tmp_path / name).chmod(0o755)
    command.output.mkdir()
    if begun:
        (command.output / "run.json").touch()
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "CALLED": str(tmp_path / "called"), "SLURM_JOB_ID": "70001",
        "SLURM_NNODES": "2",
    }  # fmt: skip
    script = job_script(command, jobs, 2)
    assert script.count("module load cuda") == 1
    done = subprocess.run(["bash", "-c", script.replace("module load cuda", "")], env=environment, check=False)
    called = (tmp_path / "called").read_text().splitlines()
    assert done.returncode == 3
    assert called[called.index("--rdzv-endpoint") + 1] == "node1:30001"
    ending = called[called.index("medseg") :]
    wanted = ["--resume"] if begun else ["--dims", "3", "--config", str(command.output / "settings.yaml")]
    assert ending == ["medseg", "train", str(command.prepared), "-o", str(command.output), "--device", "cuda", *wanted]


def test_a_job_whose_time_is_over_goes_back_into_the_queue(command: TrainingCommand, jobs: str, tmp_path: Path) -> None:
    for name, what in (("srun", "exit 1"), ("scontrol", 'echo "$@" > "$CALLED"'), ("squeue", 'echo "$END"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{what}\n")
        (tmp_path / name).chmod(0o755)
    command.output.mkdir()
    script = job_script(command, jobs, 1).replace("module load cuda", "")
    for end, requeued in (("2026-01-01T00:00:00", True), ("2126-01-01T00:00:00", False), ("NONE", False)):
        (tmp_path / "called").unlink(missing_ok=True)
        environment = {
            "PATH": f"{tmp_path}:/usr/bin:/bin", "CALLED": str(tmp_path / "called"), "SLURM_JOB_ID": "7",
            "SLURM_NNODES": "1", "END": end,
        }  # fmt: skip
        subprocess.run(["bash", "-c", script], env=environment, check=False)
        assert (tmp_path / "called").is_file() is requeued
    (command.output / "report.html").touch()  # the run is done
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == 0


def test_dry_run_prints_it(tmp_path: Path, jobs: str) -> None:
    arguments = ["train", str(tmp_path), "-o", str(tmp_path / "run"), "--nodes", "2", "--dry-run", "--cluster"]
    shown = CliRunner().invoke(app, [*arguments, jobs])
    assert shown.exit_code == 0 and shown.stdout.startswith("#!/usr/bin/env bash\n#SBATCH --job-name")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="needs --cluster slurm"):
        CliRunner().invoke(app, [*arguments, "local:2"], catch_exceptions=False)


def test_what_slurm_refuses_is_told(
    command: TrainingCommand, jobs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    script = job_script(command, jobs, 2)
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'invalid partition specified: gpu' >&2; exit 1\n")
    sbatch.chmod(0o755)
    with pytest.raises(OutputError, match="invalid partition specified"):
        submit(command, script)
    sbatch.write_text("#!/bin/sh\necho '42;cluster'\n")
    assert submit(command, script) == "42"
    assert (command.output / "train.sh").read_text() == script and (command.output / "settings.yaml").is_file()
