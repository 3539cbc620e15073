"""The workers of a Dask scheduler, as an executor."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from medseg.errors import ConfigError, reason_of
from medseg.progress import counted, say

if TYPE_CHECKING:
    from distributed import Client

SECONDS_TO_CONNECT = 15

# While the network of a worker sees a case, another thread reads the next one or writes the one before.
TASKS = 2

# Of schedulers that medseg starts. A death is medseg's to count: see ``RemoteWorkers``. A worker gets what it works on
# and no more, so that all else is for whoever is free, and no case is blamed for another's death. A case takes more
# memory than Dask knows of, whose rules for its own data would stop workers. Its profiler looks at a worker a hundred
# times a second, its clock fifty and its monitor two times: half of what a case of a tenth of a second costs beside it.
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}


@contextmanager
def workers_of(address: str, resources: Mapping[str, float]) -> Iterator[Executor]:
    """Yields an executor of the workers that a scheduler has and gets.

    Args:
        address: ``tcp://host:port``, or ``tls://`` with the certificates that Dask's own configuration names.
        resources: What a task asks for of that which workers declare: ``{"GPU": 1}``. Others take none.

    Raises:
        ConfigError: It doesn't answer.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"--cluster dask:{address.partition(':')[2]}: no scheduler answers there ({reason_of(error)}); start one "
            "with 'dask scheduler', and workers with 'dask worker'"
        ) from error
    with client:
        workers = client.scheduler_info(-1)["workers"].values()
        able = [each for each in workers if all(each["resources"].get(key, 0) >= n for key, n in resources.items())]
        asked = "".join(f", {n:g} {key} a task" for key, n in resources.items())
        say(f"Scheduler at {address} with {counted(len(able), 'worker')}{asked}")
        yield from executor_of(client, resources)


def executor_of(client: "Client", resources: Mapping[str, float] | None = None) -> Iterator[Executor]:
    """Yields the executor of a client; what has not begun at the end is cancelled.

    Args:
        client: Of a scheduler.
        resources: What a task asks for; None or empty: any worker takes it.
    """
    import dask

    executor = client.get_executor(pure=False, **({"resources": dict(resources)} if resources else {}))
    try:
        # What is sent with a task is some kilobytes, for minutes of work: no graph to warn of.
        with dask.config.set({"admin.large-graph-warning-threshold": "1GB"}):
            yield executor
    finally:
        executor.shutdown(wait=False)
