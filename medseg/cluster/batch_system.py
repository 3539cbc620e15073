"""Workers that are jobs of a batch system: SLURM, PBS, LSF or SGE, submitted and replaced by dask-jobqueue."""

import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cluster.job_settings import JobSettings
from medseg.cluster.local import environment
from medseg.cluster.scheduler import SETTINGS, executor_of
from medseg.errors import ConfigError, reason_of
from medseg.files import ensure_folder
from medseg.progress import counted, say, warn

if TYPE_CHECKING:
    from dask_jobqueue.core import JobQueueCluster

SECONDS_BETWEEN_LOOKS = 5
SECONDS_ALONE = 300

# By the name of a batch system: dask-jobqueue's class, the command that submits a job, and the option for GPUs.
SYSTEMS = {
    "slurm": ("SLURMCluster", "sbatch", "--gres=gpu:{}"),
    "pbs": ("PBSCluster", "qsub", "-l ngpus={}"),
    "lsf": ("LSFCluster", "bsub", "-gpu num={}"),
    "sge": ("SGECluster", "qsub", "-l gpu={}"),
}


@contextmanager
def batch_workers(system: str, settings: JobSettings, tasks: int) -> Iterator[Executor]:
    """Yields an executor whose workers are jobs; a job that ends while there is work is replaced.

    The scheduler is a part of this process. When it ends, even killed, so do the jobs, within a minute.

    Args:
        system: A key of ``SYSTEMS``.
        settings: What a job gets.
        tasks: That each has in hand at a time.

    Raises:
        ConfigError: There is no such batch system here, or it refuses the job.
    """
    command = SYSTEMS[system][1]
    if shutil.which(command) is None:
        raise ConfigError(f"--cluster {system}: there is no {command} here; call medseg where jobs are submitted")
    import dask
    from distributed import Client

    with dask.config.set({**SETTINGS, "distributed.deploy.lost-worker-timeout": f"{SECONDS_BETWEEN_LOOKS}s"}):
        try:
            cluster = cluster_of(system, settings, tasks)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"--cluster {system}: cannot be begun ({reason_of(error)})") from error
        with cluster, Client(cluster, set_as_default=False) as client:
            client.loop.add_callback(_Jobs(cluster, settings).kept.start)
            say(
                f"{counted(settings.jobs, 'job')} of {system}, {counted(settings.cores, 'core')} and {settings.memory} "
                f"each; their output is in {log_folder(settings)}; see {client.dashboard_link}"
            )
            yield from executor_of(client)


class _Jobs:
    """Keeps as many jobs as were asked for: those that ended, by their time or with their node, are replaced.

    Dask's own ``adapt`` takes lost jobs for jobs, and never replaces them.
    """

    def __init__(self, cluster: "JobQueueCluster", settings: JobSettings) -> None:
        from tornado.ioloop import PeriodicCallback

        self.cluster, self.settings = cluster, settings
        self.alone_since = time.monotonic()
        self.kept = PeriodicCallback(self._keep, 1000 * SECONDS_BETWEEN_LOOKS)

    def _keep(self) -> None:
        if self.cluster.status.name != "running":
            self.kept.stop()
            return
        self.cluster.scale(jobs=self.settings.jobs)
        if self.cluster.scheduler_info["workers"]:
            self.alone_since = time.monotonic()
        elif time.monotonic() - self.alone_since > SECONDS_ALONE:
            self.alone_since = time.monotonic()
            warn(
                f"No job has worked for {SECONDS_ALONE // 60} minutes: do they wait in the queue, or end at once? What "
                f"they say is in {log_folder(self.settings)}"
            )


def cluster_of(system: str, settings: JobSettings, tasks: int) -> "JobQueueCluster":
    """Returns a cluster of dask-jobqueue without jobs so far; its ``job_script()`` is what will be submitted.

    Args:
        system: A key of ``SYSTEMS``.
        settings: What a job gets.
        tasks: That each has in hand at a time.
    """
    import dask_jobqueue
    from distributed import Security

    name, _, gpu_option = SYSTEMS[system]
    cores, more = _cores_of(system, settings.cores)
    more += [gpu_option.format(settings.gpus)] if settings.gpus else []
    of_workers = {
        f"DASK_{key.upper().replace('.', '__').replace('-', '_')}": value
        for key, value in SETTINGS.items()
        if ".scheduler." not in key
    }
    exports = [f"export {key}={value}" for key, value in (environment(settings.cores) | of_workers).items()]
    options: dict[str, Any] = {
        "cores": tasks,
        "processes": 1,
        "memory": settings.memory,
        "walltime": _time_of(system, settings.time),
        "queue": settings.partition,
        "account" if system in ("slurm", "pbs") else "project": settings.account,
        "python": settings.python,
        "interface": settings.interface,
        "job_name": "medseg",
        "job_extra_directives": [*more, *settings.options],
        "job_script_prologue": [*exports, *settings.setup],
        "log_directory": str(log_folder(settings)),
        "shared_temp_directory": str(log_folder(settings)),
        "security": Security.temporary(),
        "scheduler_options": {"dashboard_address": ":0"},
        **cores,
    }
    if settings.interface is None:
        options["scheduler_options"]["host"] = socket.gethostname()
    made: JobQueueCluster = getattr(dask_jobqueue, name)(
        **{key: value for key, value in options.items() if value is not None}
    )
    return made


def log_folder(settings: JobSettings) -> Path:
    """Returns the folder for the output of jobs, which only the user can read.

    Args:
        settings: They name it.
    """
    folder = ensure_folder(settings.folder.expanduser().absolute(), "name another 'folder' in the settings of jobs")
    folder.chmod(0o700)
    return folder


def _cores_of(system: str, cores: int) -> tuple[dict[str, Any], list[str]]:
    """Returns the arguments, and the options of a job, that ask for cores: more than the threads that take cases."""
    if system == "slurm":
        return {"job_cpu": cores}, []
    if system == "pbs":
        return {"resource_spec": f"select=1:ncpus={cores}"}, []
    return ({"ncpus": cores}, []) if system == "lsf" else ({}, [f"-pe smp {cores}"])


def _time_of(system: str, time: str) -> str:
    """Returns the longest time of a job; LSF writes no seconds."""
    return time.rpartition(":")[0] if system == "lsf" and time.count(":") == 2 else time
