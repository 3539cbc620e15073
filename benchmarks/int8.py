"""Is int8 worth it? Time of a window and Dice of held-back cases: torch in bf16, OpenVINO in f32, bf16 and int8.

    python benchmarks/int8.py RUN PREPARED          (needs medseg[int8])

int8 is what 'medseg quantise' makes, from 64 patches that the run was trained on. Dice is the mean over
cases and labels, on the model grid. The second table has the time of one window of a larger network with random
weights. Prints Markdown tables.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from environment import describe

from medseg.architecture import Architecture
from medseg.config import Config
from medseg.dataset.patches import PatchSampler
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.inferers.backends import OneByOne
from medseg.inferers.graphs import openvino_graph, openvino_runner
from medseg.inferers.model import load_model
from medseg.inferers.predictor import Predictor
from medseg.inferers.quantised import quantised
from medseg.networks.registry import build_network
from medseg.training.run import reopen_run
from medseg.training.validation import validate

PATCHES = 64
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--cases", type=int, default=42)
    arguments = parser.parse_args()
    print(describe("openvino", "nncf"), "\n")
    dataset = PreparedDataset(arguments.prepared)
    run = reopen_run(arguments.run, dataset, Config())
    model = load_model(arguments.run, choose_device("cpu"))
    batch = {"batch_size": PATCHES, "foreground_fraction": 1 / 3, "seed": 1}
    patches = PatchSampler(dataset.subset(run.split.training), run.plan, **batch).batch(0).image
    networks = {"torch": model.network} | compiled(model.network, patches)
    print("| network | a window (ms) | Dice of the held-back cases |\n| --- | --- | --- |")
    for name, network in networks.items():
        milliseconds = 1000 * seconds(Predictor(network, run.plan, model.device), patches[:1])
        cases = dataset.subset(run.split.validation[: arguments.cases])
        dice = validate(network, cases, run.plan, run.config.inference, model.device).mean_dice
        print(f"| {name} | {milliseconds:.0f} | {dice:.5f} |", flush=True)
    print("\n| network of features 32-64-128-256-320, window of 96³ | a window (ms) |\n| --- | --- |")
    torch.manual_seed(0)
    architecture = Architecture(
        features=(32, 64, 128, 256, 320),
        strides=((1, 1, 1), *[(2, 2, 2)] * 4),
        kernel_sizes=((3, 3, 3),) * 5,
        deep_supervision=False,
    )
    large = build_network(1, 4, architecture)
    noise = torch.randn(4, 1, 96, 96, 96)
    placed = model.device.place(large.eval(), 3)
    for name, network in ({"torch": placed} | compiled(placed, noise)).items():
        print(f"| {name} | {1000 * seconds(Predictor(network, run.plan, model.device), noise[:1]):.0f} |", flush=True)


def compiled(network: Any, patches: torch.Tensor) -> dict[str, OneByOne]:
    """By OpenVINO, in each precision."""
    exported = openvino_graph(network, patches[:1])
    graphs = {"f32": (exported, "f32"), "bf16": (exported, "bf16"), "int8": (quantised(network, patches), "bf16")}
    return {
        f"OpenVINO {name}": OneByOne(network, openvino_runner(*graph), patches.shape[2:])
        for name, graph in graphs.items()
    }


def seconds(predict: Predictor, window: torch.Tensor) -> float:
    """Median of some rounds, after one that warms up."""
    times = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            predict(window)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
