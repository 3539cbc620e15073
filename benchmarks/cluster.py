"""What workers cost and give: python benchmarks/cluster.py speed | overhead | cohort | scheduler | simulate

speed      two workers of a core each against one, on the same cases
overhead   a cluster of one worker against none, on 200 small cases: seconds, and seconds of processors
cohort     5,000 small cases in one call by two workers: cases a second, memory of the driver
scheduler  milliseconds of a case that does nothing, from the executor to a worker and back, and bytes of the driver
simulate   up to 10,000 workers and 100,000 cases: how long it takes, and how long some are idle at the end

A machine that does other work gives worse numbers: seconds of processors tell more there.
"""

import argparse
import heapq
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from medseg.architecture import Architecture
from medseg.config import InferenceConfig
from medseg.inferers.model import save_model
from medseg.inferers.model_record import ModelRecord
from medseg.io.nifti.writer import write_nifti
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Grid, Normalization, Plan
from medseg.remote_workers import RemoteWorkers
from medseg.volume import Geometry

REPOSITORY = Path(__file__).resolve().parent.parent


def write_inputs(folder: Path, count: int, edge: int, features: tuple[int, ...]) -> tuple[Path, Path]:
    """Writes a model with random weights, and images of noise of about that edge; returns both folders."""
    grid = Grid(
        orientation="RAS", spacing=(1, 1, 1), crop_to_nonzero=False, normalization=(Normalization(kind="zscore"),)
    )
    strides = ((1,) * 3, *((2,) * 3 for _ in features[1:]))
    architecture = Architecture(features=features, strides=strides, kernel_sizes=((3,) * 3,) * len(features))
    plan = Plan(dims=3, grid=grid, patch_size=(32, 32, 32), batch_size=2, slice_axis=None, architecture=architecture)
    labels = Labels.from_names({"a": 1, "b": 2})
    record = ModelRecord(
        plan=plan, labels=labels, channels=("MR",), medseg="0", inference=InferenceConfig(), provenance={}, metrics={}
    )
    save_model(folder / "model", record, build_network(1, 3, architecture).state_dict())
    generator, images = np.random.default_rng(0), folder / "images"
    images.mkdir()
    for number in range(count):
        shape = tuple(int(n) for n in generator.integers(int(edge * 0.8), int(edge * 1.2) + 1, 3))
        values = generator.normal(0, 100, shape).astype(np.int16)
        write_nifti(images / f"case_{number:05d}.nii.gz", values, Geometry(shape, np.eye(4)))
    return folder / "model", images


def predict(model: Path, images: Path, output: Path, *more: str) -> dict[str, float]:
    """Runs the command; returns its seconds, those of processors, and the memory of the driver in MB."""
    command = [sys.executable, "-m", "medseg", "predict", str(model), str(images), "-o", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    start, before = time.perf_counter(), os.times()
    process = psutil.Popen(
        [*command, "--backend", "torch", "--device", "cpu", *more], env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    memory = [0.0]
    watching = threading.Thread(target=_watch, args=(process, memory), daemon=True)
    watching.start()
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors.decode()[-3000:])
    after = os.times()
    processors = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(processors, 1),
        "driver_mb": round(memory[0], 1),
        "masks": len(list(output.glob("*.nii.gz"))),
    }


def _watch(process: psutil.Popen, memory: list[float]) -> None:
    while process.poll() is None:
        try:
            memory[0] = max(memory[0], process.memory_info().rss / 2**20)
        except psutil.Error:
            return
        time.sleep(0.2)


def speed(folder: Path, count: int) -> dict[str, object]:
    model, images = write_inputs(folder, count, 64, (16, 32, 64))
    with pinned(1):
        one = predict(model, images, folder / "one", "--cluster", "local:1")
    with pinned(2):
        two = predict(model, images, folder / "two", "--cluster", "local:2")
    return {"cases": count, "one": one, "two": two, "faster": one["seconds"] / two["seconds"], "same": same(folder)}


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """Runs what follows on so many cores."""
    given = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(given)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, given)


def same(folder: Path) -> bool:
    """Whether the masks of both calls are the same to the bit."""
    masks = sorted((folder / "one").glob("*.nii.gz"))
    return bool(masks) and all(mask.read_bytes() == (folder / "two" / mask.name).read_bytes() for mask in masks)


def overhead(folder: Path, count: int) -> dict[str, object]:
    model, images = write_inputs(folder, count, 40, (8, 16))
    found = {}
    with pinned(1):  # a worker takes as many threads as there are cores
        for name, more in (("one", ()), ("two", ("--cluster", "local:1"))):
            found[name] = predict(model, images, folder / name, *more)
    seconds = {key: found["two"][key] - found["one"][key] for key in ("seconds", "processor_seconds")}
    return {"cases": count, "none": found["one"], "cluster_of_one": found["two"], "more": seconds, "same": same(folder)}


def cohort(folder: Path, count: int) -> dict[str, object]:
    model, images = write_inputs(folder, count, 20, (4, 8))
    found = predict(model, images, folder / "masks", "--cluster", "local:2")
    return {**found, "cases": count, "cases_per_second": count / found["seconds"]}


def scheduler(_: Path, count: int) -> dict[str, object]:
    from medseg.cluster import open_cluster

    found: dict[str, object] = {"cases": count}
    for workers in (1, 2, 8):
        with open_cluster(f"local:{workers}") as executor:
            remote = RemoteWorkers(executor)
            list(remote.outcomes(abs, range(4 * workers)))  # they are all there
            process, before = psutil.Process(), psutil.Process().memory_info().rss
            start, busy = time.perf_counter(), time.process_time()
            n_done = sum(outcome.error is None for _, outcome in remote.outcomes(abs, range(count)))
            assert n_done == count
            found[f"{workers} workers"] = {
                "ms_per_case": 1000 * (time.perf_counter() - start) / count,
                "processor_ms_of_the_driver": 1000 * (time.process_time() - busy) / count,
                "driver_bytes_per_case": (process.memory_info().rss - before) / count,
            }
    return found


def simulate(_: Path, count: int) -> dict[str, object]:
    """Events, no processes: workers pull, the scheduler hands out one case after the other."""
    generator = random.Random(0)
    times = [generator.lognormvariate(3.2, 0.8) for _ in range(count)]  # seconds: median 25 s, one in a hundred 160 s
    found: dict[str, object] = {"cases": count, "hours_of_work": sum(times) / 3600}
    for workers in (10, 100, 1000, 10_000):
        for order, given in (("largest_first", sorted(times, reverse=True)), ("as_found", times)):
            for milliseconds in (1.5, 5.0):
                found[f"{workers} workers, {order}, {milliseconds} ms"] = _run(workers, given, milliseconds / 1000)
    return found


def _run(workers: int, times: list[float], seconds_of_scheduler: float) -> dict[str, float]:
    free = [0.0] * workers
    heapq.heapify(free)
    scheduler_free, ends = 0.0, []
    for seconds in times:
        start = max(heapq.heappop(free), scheduler_free)
        scheduler_free = start + seconds_of_scheduler
        end = start + seconds_of_scheduler + seconds
        ends.append(end)
        heapq.heappush(free, end)
    makespan = max(ends)
    return {
        "hours": round(makespan / 3600, 3),
        "of_the_ideal": round(makespan / max(sum(times) / workers, max(times)), 3),
        "seconds_with_idle_workers": round(makespan - min(free), 1),
    }


def main() -> None:
    modes = {
        "speed": (speed, 40),
        "overhead": (overhead, 200),
        "cohort": (cohort, 5000),
        "scheduler": (scheduler, 2000),
        "simulate": (simulate, 100_000),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--cases", type=int)
    arguments = parser.parse_args()
    function, usual = modes[arguments.mode]
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(function(Path(folder), arguments.cases or usual), indent=1))


if __name__ == "__main__":
    main()
