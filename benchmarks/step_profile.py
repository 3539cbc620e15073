"""What a training step spends its time on: torch.profiler over some steps of a run's plan, augmentation included.

    python benchmarks/step_profile.py PREPARED [--dims 3] [--set training.batch_size=2 …]

Prints Markdown tables: the parts of a step, as wall time; and the kernels within it, as processor time of the main
thread.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from environment import describe
from torch.profiler import ProfilerActivity, profile

from medseg.config import load
from medseg.dataset.patches import PatchSampler
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.training.run import start_runs
from medseg.training.run_trainer import trainer_of
from medseg.training.trainer import Trainer

WARM_UP, STEPS = 10, 20
KERNELS = 14  # rows of the second table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--dims", type=int, choices=(2, 3), default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    config = load(overrides=arguments.settings)
    with TemporaryDirectory() as folder:
        dataset, device = PreparedDataset(arguments.prepared), choose_device("cpu", config.training.precision)
        run = start_runs(Path(folder) / "run", dataset, arguments.dims, config, device)[0]
        trainer, sampler = trainer_of(run, device)
        batches = sampler.prefetched(0)
        trainer.run_steps(batches, 0, WARM_UP, lambda step: 0.5)
        start = time.perf_counter()
        trainer.run_steps(batches, WARM_UP, WARM_UP + STEPS, lambda step: 0.5)
        milliseconds = 1000 * (time.perf_counter() - start) / STEPS
        reading, augmenting = alone(trainer, sampler)
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            trainer.run_steps(batches, WARM_UP + STEPS, WARM_UP + 2 * STEPS, lambda step: 0.5)
        batches.close()
    print(describe(), "\n")
    shape = "×".join(map(str, run.plan.network_patch))
    print(f"Batches of {run.plan.batch_size} patches of {shape}: {milliseconds:.0f} ms a step, of which augmentation")
    print(f"is {augmenting:.0f} ms; reading a batch takes {reading:.0f} ms, during the step before.")
    print("\n| kernel | ms a step | part |\n| --- | --- | --- |")
    kernels = sorted(trace.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in kernels)
    for row in kernels[:KERNELS]:
        print(f"| {row.key} | {row.self_cpu_time_total / 1000 / STEPS:.1f} | {row.self_cpu_time_total / total:.1%} |")


def alone(trainer: Trainer, sampler: PatchSampler) -> tuple[float, float]:
    """Milliseconds that reading a batch takes, and augmenting it, without anything beside."""
    seed, times = trainer.settings.seed, torch.zeros(STEPS, 2)
    for step in range(STEPS):
        start = time.perf_counter()
        batch = sampler.batch(step)
        read = time.perf_counter()
        trainer.augmentation({"image": batch.image, "label": batch.label}, seed=(seed, step))
        times[step, 0], times[step, 1] = read - start, time.perf_counter() - read
    reading, augmenting = (1000 * times.median(0).values).tolist()
    return reading, augmenting


if __name__ == "__main__":
    main()
