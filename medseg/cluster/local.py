"""Worker processes of this machine, which share its cores and GPUs."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from medseg.cluster.scheduler import SETTINGS, executor_of
from medseg.parallel import processor_count
from medseg.progress import counted, say


@contextmanager
def local_workers(count: int, tasks: int) -> Iterator[Executor]:
    """Yields an executor of so many processes of this machine.

    Each has its part of the cores. With GPUs each sees one of them, the first process the first one, and so on. What
    they tell each other is encrypted: other users of the machine cannot speak to them.

    Args:
        count: How many processes.
        tasks: That each has in hand at a time.
    """
    import dask
    from distributed import Client, Nanny, Scheduler, Security, SpecCluster

    cores, gpus = max(1, processor_count() // count), _gpus()
    with dask.config.set(SETTINGS):
        security = Security.temporary()
        place = {"protocol": "tls://", "security": security, "host": "127.0.0.1"}
        scheduler = {"cls": Scheduler, "options": {**place, "port": 0, "dashboard_address": "127.0.0.1:0"}}
        nannies = {
            number: {
                "cls": Nanny,
                "options": {
                    **place,
                    "nthreads": tasks,
                    "memory_limit": 0,
                    "env": environment(cores, number, gpus),
                    "silence_logs": logging.CRITICAL,
                },
            }
            for number in range(count)
        }
        with (
            SpecCluster(nannies, scheduler, security=security, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            by_gpu = f", on {counted(len(gpus), 'GPU')}" if gpus else ""
            say(f"{counted(count, 'worker')} with {counted(cores, 'core')} each{by_gpu}; see {client.dashboard_link}")
            yield from executor_of(client)


def environment(cores: int, number: int = 0, gpus: list[str] | None = None) -> dict[str, str]:
    """Returns the environment of a worker: how many threads operations take, and which GPU it sees.

    Args:
        cores: Of the worker.
        number: Of the worker, from 0.
        gpus: Those of the machine, by the names that CUDA has for them.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(cores))
    return {**threads, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else threads


def _gpus() -> list[str]:
    """Returns the names of this machine's GPUs, without asking CUDA, which would begin in this process then."""
    given = os.getenv("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
