"""Commands alone, and beside a program that keeps a core busy: how many times longer they take.

    python benchmarks/busy.py HIPPOCAMPUS [--runs 3] [--steps 60] [--commands preprocess train-3d …]
    python benchmarks/busy.py HIPPOCAMPUS --ct CT.nii.gz       predicts this too, by the 3D network
    python benchmarks/busy.py HIPPOCAMPUS --tests tests/unit   runs these tests too

HIPPOCAMPUS is MSD Task04 (dataset.json, imagesTr/, labelsTr/). Each command runs alone and beside ``while True: pass``,
in turn, ``--runs`` times; ``--busy`` such programs keep as many cores busy. ``train`` does a fixed number of steps; its
row counts them alone, the whole command has a row of its own. Prints a Markdown table: medians, the median of the
paired ratios, and the least and the largest of them.

Two programs of equal rights on two cores leave a command of two threads 1.33 cores: a ratio of 1.5 is the best that
it can have where it kept both cores busy before.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from commands import REPOSITORY, Medseg, shifted, some_images, step_seconds
from environment import describe

BUSY = "while True: pass"
NAMES = ("preprocess", "train-3d", "train-2d", "predict-3d", "predict-2d", "predict-openvino", "evaluate")
# What a command takes, by what is measured of it.
Seconds = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--runs", type=int, default=3, help="of each command, alone and beside")
    parser.add_argument("--steps", type=int, default=60, help="of train")
    parser.add_argument("--busy", type=int, default=1, help="programs beside")
    parser.add_argument("--commands", nargs="+", choices=NAMES, default=NAMES, metavar="COMMAND", help=" ".join(NAMES))
    parser.add_argument("--ct", type=Path, help="an image to predict too")
    parser.add_argument("--tests", nargs="+", default=[], help="tests to run too")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a setting of train")
    arguments = parser.parse_args()
    print(describe("openvino") if "predict-openvino" in arguments.commands else describe(), end="\n\n")
    print(f"| command | alone (s) | beside {arguments.busy} busy (s) | ratio | least | most |\n" + "| --- " * 6 + "|")
    with tempfile.TemporaryDirectory() as temporary:
        for command in commands(arguments, Path(temporary)):
            compare(command, arguments.runs, arguments.busy)


def commands(arguments: argparse.Namespace, folder: Path) -> Iterator[Callable[[], Seconds]]:
    """What is measured, each after what it needs was made."""
    wanted, medseg, source = arguments.commands, Medseg(), arguments.source
    prepared = folder / "prepared"
    medseg.preprocess(source, prepared)
    images = some_images(source, folder / "images")
    masks = shifted(source / "labelsTr", folder / "shifted")
    runs = {dims: folder / f"run-{dims}d" for dims in (3, 2)}
    for dims, run in runs.items():
        if arguments.ct or {f"predict-{dims}d", "predict-openvino"} & set(wanted):
            medseg.train(prepared, run, dims, steps=4, settings=arguments.settings)

    def preprocess() -> Seconds:
        return {"preprocess, 208 hippocampi": medseg.preprocess(source, folder / "again")}

    def train(dims: int) -> Seconds:
        run = folder / "trained"
        whole = medseg.train(prepared, run, dims, arguments.steps, arguments.settings)
        return {f"train, {dims}D: {arguments.steps} steps": step_seconds(run), f"train, {dims}D: whole command": whole}

    def predict(what: Path, dims: int, *options: str) -> Seconds:
        seconds = medseg.predict(runs[dims], what, folder / "masks", *options)
        return {
            " ".join((f"predict, {dims}D:", "the CT" if what == arguments.ct else "31 hippocampi", *options)): seconds
        }

    def evaluate() -> Seconds:
        return {"evaluate, 208 hippocampi": medseg.evaluate(masks, source / "labelsTr", folder / "metrics")}

    found: dict[str, Callable[[], Seconds]] = {
        "preprocess": preprocess,
        "train-3d": lambda: train(3),
        "train-2d": lambda: train(2),
        "predict-3d": lambda: predict(images, 3, "--backend", "torch"),
        "predict-2d": lambda: predict(images, 2, "--backend", "torch"),
        "predict-openvino": lambda: predict(images, 3, "--backend", "openvino"),
        "evaluate": evaluate,
    }
    yield from (found[name] for name in wanted)
    if arguments.ct:
        yield lambda: predict(arguments.ct, 3)
    if arguments.tests:
        yield lambda: {"pytest " + " ".join(arguments.tests): tested(arguments.tests)}


def compare(command: Callable[[], Seconds], runs: int, busy: int) -> None:
    """Prints a row for each thing that is measured of a command."""
    pairs: list[tuple[Seconds, Seconds]] = []
    for _ in range(runs):
        alone = command()
        with beside(busy):
            pairs.append((alone, command()))
    for name in pairs[0][0]:
        ratios = [second[name] / first[name] for first, second in pairs]
        first, second = (statistics.median(each[name] for each in column) for column in zip(*pairs, strict=True))
        cells = [f"{value:.2f}" for value in (statistics.median(ratios), min(ratios), max(ratios))]
        print("|", " | ".join([name, f"{first:.1f}", f"{second:.1f}", *cells]), "|", flush=True)


@contextmanager
def beside(count: int) -> Iterator[None]:
    """Keeps so many cores busy meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def tested(tests: list[str]) -> float:
    """Runs tests; returns their seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    subprocess.run(command, cwd=REPOSITORY, env=dict(os.environ), capture_output=True, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
