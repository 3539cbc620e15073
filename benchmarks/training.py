"""Training of medseg and of nnU-Net on MSD Task04 Hippocampus, on the same machine, one after the other.

    python benchmarks/training.py HIPPOCAMPUS --peer PEER/bin --max-time 10m       Dice after the same wall time
    python benchmarks/training.py HIPPOCAMPUS --peer PEER/bin --speed              samples per second

``--peer`` is the bin folder of an environment of its own with nnunetv2 2.8.1 (pip install torch==2.14.1
torchvision==0.29.1 nnunetv2). Both train on fold 0 of nnU-Net's split, with their own plans and augmentation, and
validate the same 42 cases on their source grids. Prints a Markdown table.

nnU-Net's schedule is a thousand epochs long and knows no clock, so its trainer is told the time: the learning rate
decays by the clock, training ends when the time is up, and its final validation is not counted. medseg's time includes
all. ``--speed`` gives both nnU-Net's network, patch and batch.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from environment import describe
from preprocessing import Peer

import medseg
from medseg.config import load
from medseg.setting_types import seconds

# Of nnU-Net's plan for this dataset.
SAME_NETWORK = [
    "planning.patch_size=[40,56,40]",
    "training.batch_size=9",
    "network.features=[32,64,128,256]",
    "training.steps_per_epoch=5",
    "training.validation_share=0.01",
]
SCRIPT = Path(__file__).with_name("nnunet_training.py")


class Result(NamedTuple):
    seconds: float
    steps: int
    samples_per_second: float  # median over the epochs
    dice: dict[str, float]  # by label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--peer", type=Path, help="bin folder with nnunetv2; without, it is left out")
    parser.add_argument("--max-time", default="10m")
    parser.add_argument("--dims", type=int, choices=(2, 3), default=3)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of medseg, section.key=value")
    arguments = parser.parse_args()
    settings = [*(SAME_NETWORK if arguments.speed else []), *arguments.settings]
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = {"medseg": ours(arguments.source, folder, arguments, settings)}
        if arguments.peer:
            peer = Peer(arguments.peer, arguments.source, folder)
            print(f"nnunetv2 {peer.version()}")
            results["nnU-Net"] = theirs(peer, folder, arguments)
    labels = list(results["medseg"].dice)
    print(f"\n| | wall (s) | steps | samples per second | {' | '.join(labels)} | mean Dice |")
    print("| --- " * (5 + len(labels)) + "|")
    for name, result in results.items():
        scores = [*(result.dice[label] for label in labels), statistics.fmean(result.dice.values())]
        numbers = [f"{result.seconds:.0f}", str(result.steps), f"{result.samples_per_second:.2f}"]
        print(f"| {' | '.join([name, *numbers, *(f'{score:.3f}' for score in scores)])} |")


def ours(source: Path, folder: Path, arguments: argparse.Namespace, settings: list[str]) -> Result:
    prepared, run = folder / "prepared", folder / "run"
    medseg.preprocess(source, prepared)
    config = folder / "config.yaml"
    config.write_text(load(overrides=[*settings, f"training.max_time={arguments.max_time}"]).to_yaml())
    command = [sys.executable, "-m", "medseg", "train", prepared, "-o", run, "--dims", arguments.dims]
    command += ["--config", config]
    elapsed = timed(command, dict(os.environ))
    return outcome(run, elapsed)


def outcome(run: Path, elapsed: float) -> Result:
    """Of a run of medseg, from its log and its validation."""
    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    summary = json.loads((run / "validation" / "metrics.json").read_text())["summary"]
    dice = {name: label["metrics"]["dice"]["mean"] for name, label in summary["labels"].items()}
    speed = statistics.median(float(epoch["samples_per_second"]) for epoch in epochs)
    return Result(elapsed, int(epochs[-1]["step"]), speed, dice)


def theirs(peer: Peer, folder: Path, arguments: argparse.Namespace) -> Result:
    configuration = f"{arguments.dims}d" if arguments.dims == 2 else "3d_fullres"
    plan = [peer.bin / "nnUNetv2_plan_and_preprocess", "-d", "4", "-c", configuration]
    timed(plan, peer.environment)
    output = folder / "peer.json"
    command = [peer.bin / "python", "-P", SCRIPT, Path(peer.folders["nnUNet_preprocessed"]) / "Dataset004_Hippocampus"]
    command += [configuration, output, "--begun", time.time(), "--seconds", seconds(arguments.max_time), "--validate"]
    elapsed = timed(command, peer.environment)
    record = json.loads(output.read_text())
    labels = json.loads((Path(peer.folders["nnUNet_raw"]) / "Dataset004_Hippocampus/dataset.json").read_text())[
        "labels"
    ]
    dice = {name: record["dice"][str(value)] for name, value in labels.items() if value}
    speed = record["batch_size"] / statistics.median(record["step_seconds"])
    first, last = (statistics.fmean(part) for part in (record["losses"][:10], record["losses"][-10:]))
    print(f"nnU-Net's loss (-1 is perfect): {first:.3f} over the first ten steps, {last:.3f} over the last", flush=True)
    return Result(elapsed - record["validation_seconds"], record["steps"], speed, dice)


def timed(command: list[object], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[:3]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
