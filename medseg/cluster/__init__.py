"""Workers on this machine or on others, started by engines that exist: Dask, and the batch systems of clusters.

``open_cluster`` gives an executor of ``concurrent.futures``; the verbs take any. medseg has no scheduler of its own.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl

from medseg.cluster.batch_system import SYSTEMS, batch_workers
from medseg.cluster.job_settings import read_job_settings
from medseg.cluster.local import local_workers
from medseg.cluster.scheduler import TASKS, workers_of
from medseg.errors import ConfigError, did_you_mean

FORMS = (
    "local:4, dask://host:8786 (or dask://host:8786?GPU=1), slurm or slurm:settings.yaml (pbs, lsf and sge likewise)"
)


@contextmanager
def open_cluster(name: str, tasks: int = TASKS) -> Iterator[Executor]:
    """Yields an executor whose workers do what it is given; they end with the block.

    Args:
        name: ``"local:4"``: so many processes of this machine, which share its cores and GPUs.
            ``"dask://host:8786"``: the workers of a Dask scheduler that runs somewhere (``tls://`` with Dask's own
            certificates). Behind a question mark, ``"dask://host:8786?GPU=1"``, stands what a task asks for of that
            which workers declare (Dask's ``resources``). ``"slurm"``, ``"pbs"``, ``"lsf"`` or ``"sge"``,
            with ``":settings.yaml"`` behind it or without: jobs of a batch system
            (``medseg.cluster.job_settings.JobSettings``).
        tasks: That a worker has in hand at a time: 2 for cases, of which one is read or written while the network sees
            the other; 1 for trainings. A Dask scheduler's workers have their own ``--nthreads``.

    Raises:
        ConfigError: There is no such cluster, it doesn't answer, or Dask isn't installed.

    Example:
        >>> import medseg
        >>> with medseg.open_cluster("local:2") as executor:  # doctest: +SKIP
        ...     medseg.predict("run", "scans", "masks", executor=executor)
    """
    kind, _, rest = name.partition(":")
    with _installed(name):
        if kind == "local":
            opened = local_workers(_count(name, rest), tasks)
        elif kind in ("dask", "tcp", "tls") and rest.startswith("//"):
            place, _, asked = rest.partition("?")
            opened = workers_of(f"{'tcp' if kind == 'dask' else kind}:{place}", _resources(name, asked))
        elif kind in SYSTEMS:
            opened = batch_workers(kind, read_job_settings(Path(rest) if rest else None), tasks)
        else:
            raise ConfigError(f"--cluster {name}: is none{did_you_mean(kind, ('local', 'dask', *SYSTEMS))}; {FORMS}")
    with opened as executor:
        yield executor


def _count(name: str, rest: str) -> int:
    if not rest.isdecimal() or not 0 < int(rest) < 10_000:
        raise ConfigError(f"--cluster {name}: say how many processes, as in local:4")
    return int(rest)


def _resources(name: str, asked: str) -> dict[str, float]:
    try:
        return {key: float(value) for key, value in parse_qsl(asked, strict_parsing=bool(asked))}
    except ValueError as error:
        raise ConfigError(f"--cluster {name}: say how much a task asks for, as in dask://host:8786?GPU=1") from error


@contextmanager
def _installed(name: str) -> Iterator[None]:
    try:
        import dask_jobqueue  # noqa: F401
        import distributed  # noqa: F401

        yield
    except ImportError as error:
        raise ConfigError(
            f"--cluster {name}: needs Dask, which is not installed ({error}): pip install 'medseg[cluster]'"
        ) from error
