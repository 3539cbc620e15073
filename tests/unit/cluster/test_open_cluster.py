"""--cluster: its forms, settings of jobs, and the scripts that batch systems get."""

import sys
from pathlib import Path

import pytest
from distributed import Scheduler, SpecCluster, Worker, get_worker

from medseg.cluster import open_cluster
from medseg.cluster.batch_system import SYSTEMS, cluster_of
from medseg.cluster.job_settings import JobSettings, read_job_settings
from medseg.cluster.local import environment
from medseg.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("local", "say how many processes, as in local:4"),
        ("local:0", "say how many"),
        ("local:-2", "say how many"),
        ("slrum", "did you mean 'slurm'"),
        ("dask:host", "is none"),
        ("dask://127.0.0.1:1", "no scheduler answers there"),
        ("dask://127.0.0.1:1?GPU", "say how much a task asks for, as in dask://host:8786"),
        ("dask://127.0.0.1:1?GPU=two", "say how much a task asks for"),
        ("lsf", "there is no bsub here"),
        ("slurm:nowhere.yaml", "nowhere.yaml: there is no such file"),
    ],
)
def test_what_is_no_cluster_is_refused(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.cluster.scheduler.SECONDS_TO_CONNECT", 0.3)
    with pytest.raises(ConfigError, match=message), open_cluster(name):
        pass


def test_without_dask_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'medseg\[cluster\]'"), open_cluster("local:2"):
        pass


def test_tasks_go_to_workers_that_declare_what_they_ask_for(capfd: pytest.CaptureFixture[str]) -> None:
    workers = {
        name: {"cls": Worker, "options": {"nthreads": 1, "resources": resources, "name": name}}
        for name, resources in (("plain", {}), ("with a GPU", {"GPU": 1}))
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    with (
        SpecCluster(workers, scheduler) as cluster,
        open_cluster(cluster.scheduler_address.replace("tcp", "dask") + "?GPU=1") as executor,
    ):
        names = set(executor.map(lambda number: get_worker().name, range(6)))
    assert names == {"with a GPU"}
    assert "with 1 worker, 1 GPU a task" in capfd.readouterr().err


def test_settings_of_jobs_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text("jobs: 8\npartition: gpu\noptions: ['--qos=high']\n")
    assert read_job_settings(path) == JobSettings(jobs=8, partition="gpu", options=("--qos=high",))
    for wrong in ("partitoin: gpu", "jobs: 0", "memory: much", 'time: "1h; rm -rf ~"', 'partition: "a\\nb"', "- 1"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match="jobs.yaml"):
            read_job_settings(path)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_script_of_a_job_asks_for_what_the_settings_say(system: str, tmp_path: Path) -> None:
    settings = JobSettings(
        cores=6, memory="24GB", gpus=2, time="02:30:00", partition="gpu", account="lab", setup=("module load cuda",),
        python="/opt/python", folder=tmp_path / "jobs", options=("--mine",),
    )  # fmt: skip
    with cluster_of(system, settings, 2) as cluster:
        script = cluster.job_script()
    assert "/opt/python -m distributed.cli.dask_worker tls://" in script
    assert "module load cuda\n" in script and "export OMP_NUM_THREADS=6\n" in script
    assert "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False\n" in script  # else a full worker takes nothing more
    assert "--nthreads 2" in script and "--mine" in script
    wanted = {
        "slurm": ("--cpus-per-task=6", "--mem=", "-t 02:30:00", "-p gpu", "-A lab", "--gres=gpu:2"),
        "pbs": ("select=1:ncpus=6", "walltime=02:30:00", "-q gpu", "-A lab", "-l ngpus=2"),
        "lsf": ("-n 6", "-W 02:30", "-q gpu", "-gpu num=2"),
        "sge": ("-pe smp 6", "h_rt=02:30:00", "-q gpu", "-l gpu=2"),
    }[system]
    assert [option for option in wanted if option not in script] == [], script
    assert (tmp_path / "jobs").stat().st_mode & 0o777 == 0o700


def test_workers_share_cores_and_gpus() -> None:
    assert [environment(2, n, ["0", "1"])["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["0", "1", "0"]
    assert environment(3) == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
