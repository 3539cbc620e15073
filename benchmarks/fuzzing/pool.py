"""Worker processes that may crash or hang: each input costs no more than itself."""

import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from fuzzing import trials
from fuzzing.mutations import mutate
from fuzzing.seeds import Seed
from fuzzing.trials import Outcome, attempt

# A new process now and then: what a library keeps, or has broken, ends with it.
INPUTS_A_WORKER = 300


class Input(NamedTuple):
    """The ``number``-th of a kind. With the seed of all, it says what is done to which of the kind's seeds."""

    kind: str
    number: int


@dataclass(frozen=True)
class Tried:
    """``folder`` holds the changed input, as long as the next one has not begun; ``target``: the file in it."""

    input: Input
    outcome: Outcome
    seconds: float
    folder: Path
    target: str
    mutation: str = ""


@dataclass(frozen=True)
class Setting:
    """What all inputs have in common."""

    seeds: tuple[Seed, ...]
    place: Path  # for changed inputs
    run: Path
    seed: int
    memory: int  # bytes that a worker may take on top
    timeout: float


class _Worker:
    def __init__(self, context: ForkContext, setting: Setting) -> None:
        self.connection, theirs = context.Pipe()
        self.process: ForkProcess = context.Process(target=_work, args=(theirs, setting))
        self.process.start()
        theirs.close()
        self.input: Input | None = None
        self.since = 0.0
        self.done = 0

    def begin(self, each: Input) -> None:
        self.input, self.since = each, time.monotonic()
        self.connection.send(each)

    def end(self) -> int:
        """Kills it with all that it began; the signal that it had died of before, if any."""
        code = self.process.exitcode
        for kill in (lambda: os.killpg(self.process.pid or 0, signal.SIGKILL), self.process.kill):
            try:
                kill()
            except OSError:
                continue
        self.process.join()
        self.connection.close()
        return -(code if code is not None else self.process.exitcode or 0)


def try_all(inputs: Sequence[Input], setting: Setting, n_workers: int) -> Iterator[Tried]:
    """Each input with what became of it, in the order in which they are done."""
    context = multiprocessing.get_context("fork")
    waiting = list(reversed(inputs))
    workers = [_Worker(context, setting) for _ in range(min(n_workers, len(inputs)))]
    try:
        while waiting or any(worker.input for worker in workers):
            for i, worker in enumerate(workers):
                if worker.input is None and waiting:
                    if worker.done >= INPUTS_A_WORKER:
                        worker.end()
                        workers[i] = worker = _Worker(context, setting)
                    worker.begin(waiting.pop())
            busy = [worker for worker in workers if worker.input]
            ready = wait([worker.connection for worker in busy], timeout=0.5)
            for i, worker in enumerate(workers):
                late = worker.input and time.monotonic() - worker.since > setting.timeout
                if worker.input and (worker.connection in ready or late):
                    tried = _result(worker, worker.input, setting)
                    yield tried
                    if tried.outcome.verdict in ("crash", "hang"):
                        workers[i] = _Worker(context, setting)
                    shutil.rmtree(tried.folder, ignore_errors=True)
                    worker.input, worker.done = None, worker.done + 1
    finally:
        for worker in workers:
            worker.end()


def _result(worker: _Worker, each: Input, setting: Setting) -> Tried:
    seconds = time.monotonic() - worker.since
    folder = _folder(setting, each)
    try:
        if worker.connection.poll():
            outcome, target, mutation = worker.connection.recv()
            return Tried(each, outcome, seconds, folder, target, mutation)
        worker.end()
        return Tried(each, Outcome("hang", f"over {setting.timeout:.0f} s"), seconds, folder, "")
    except EOFError:
        worker.process.join(1)
        return Tried(each, Outcome("crash", f"signal {worker.end()}"), seconds, folder, "")


def changed(each: Input, setting: Setting) -> tuple[Path, Path, str]:
    """Copies a seed of the kind and changes it: the folder, the file that was changed, and how."""
    random = np.random.default_rng([setting.seed, crc32(each.kind.encode()), each.number])
    choices = [seed for seed in setting.seeds if seed.kind == each.kind]
    seed = choices[int(random.integers(len(choices)))]
    folder = _folder(setting, each)
    root = folder / "input"
    shutil.copytree(seed.folder, root)
    return root, root / seed.target, mutate(root / seed.target, each.kind, random)


def _folder(setting: Setting, each: Input) -> Path:
    return setting.place / f"{each.kind.replace(' ', '_')}-{each.number}"


def _work(connection: Connection, setting: Setting) -> None:
    os.setsid()
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    # As the command line has it: names of files may hold what UTF-8 has not.
    sys.stdout = sys.stderr = Path(os.devnull).open("w", errors="backslashreplace")  # noqa: SIM115 (open to the end)
    limit_memory(setting.memory)
    trials.RUN = setting.run
    while True:
        each = connection.recv()
        root, target, mutation = changed(each, setting)
        outcome = attempt(each.kind, root, target, each.number)
        connection.send((outcome, str(target.relative_to(root)), mutation))


def limit_memory(more: int) -> None:
    """``more`` bytes than this process has now."""
    if Path("/proc/self/status").is_file():
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
        limit = int(line.split()[1]) * 1024 + more
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
