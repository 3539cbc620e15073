"""The speed of two checkouts, paired: training steps in turn, and whole 'medseg predict' commands in turn.

    git worktree add ../before COMMIT
    python benchmarks/commits.py ../before . HIPPOCAMPUS [--dims 2 3] [--steps 60] [--runs 5] [--set SETTING]

HIPPOCAMPUS is MSD Task04 (dataset.json, imagesTr/, labelsTr/). Both train at once on the same prepared cases, but only
one of them at a time: it does three steps while the other one waits, so that whatever else runs on the machine takes
as much from both. Then each predicts 31 cases, in turn, with the model that the first one trained. Prints a Markdown
table: medians, the median of the paired ratios (less than 1: the second one is faster), and their quartiles.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from commands import SHORT, Medseg, flags, some_images
from environment import describe

# The first argument of a process that trains in turn.
TURNS = "in-turn"
BLOCK, WARM_UP = 3, 10
CPU_COUNT = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# A fixed number of threads: a step that waits for the other checkout would be taken for a slow one.
THREADS = f"training.threads={CPU_COUNT}"


def main() -> None:
    if sys.argv[1:2] == [TURNS]:
        train_in_turn(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--dims", nargs="+", type=int, choices=(2, 3), default=(3, 2))
    parser.add_argument("--steps", type=int, default=60, help="of each checkout, in blocks of three; 0: none")
    parser.add_argument("--runs", type=int, default=5, help="of predict, of each checkout; 0: none")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a setting of train")
    arguments = parser.parse_args()
    checkouts = (Medseg(arguments.first), Medseg(arguments.second))
    print(f"{describe()}\n\n{', '.join(map(commit, (arguments.first, arguments.second)))}\n")
    print("| what | first | second | second / first | quartiles | pairs |\n" + "| --- " * 6 + "|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepared, images = folder / "prepared", some_images(arguments.source, folder / "images")
        checkouts[0].preprocess(arguments.source, prepared)
        settings = [THREADS, *arguments.settings]
        for dims in arguments.dims:
            if arguments.steps:
                options = ["--dims", str(dims), *flags([*SHORT, "training.steps_per_epoch=100000", *settings])]
                blocks = steps_in_turn(checkouts, prepared, folder / f"turns-{dims}d", options, arguments.steps)
                print(row(f"training step, {dims}D (ms)", blocks), flush=True)
            if arguments.runs:
                run = folder / f"run-{dims}d"
                checkouts[0].train(prepared, run, dims, steps=4, settings=settings)
                pairs = predict_in_turn(checkouts, run, images, folder / "masks", arguments.runs)
                print(row(f"predict, {dims}D, {len(list(images.iterdir()))} cases (s)", pairs), flush=True)


def commit(checkout: Path) -> str:
    """The commit of a checkout, and whether something was changed since."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or str(checkout)


def row(what: str, pairs: list[tuple[float, float]]) -> str:
    ratios = [second / first for first, second in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(pairs) > 1 else ratios * 3
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    cells = (what, f"{first:.4g}", f"{second:.4g}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}", str(len(pairs)))
    return "| " + " | ".join(cells) + " |"


def predict_in_turn(
    checkouts: tuple[Medseg, Medseg], run: Path, images: Path, output: Path, runs: int
) -> list[tuple[float, float]]:
    """Seconds of whole commands; each checkout is the first one every other time."""
    pairs = []
    for i in range(runs + 1):
        order = checkouts if i % 2 else checkouts[::-1]
        seconds = {medseg: medseg.predict(run, images, output) for medseg in order}
        pairs.append((seconds[checkouts[0]], seconds[checkouts[1]]))
    return pairs[1:]  # the first ones compile modules and fill the cache of files


def steps_in_turn(
    checkouts: tuple[Medseg, Medseg], prepared: Path, folder: Path, settings: list[str], steps: int
) -> list[tuple[float, float]]:
    """Milliseconds of a step in each block of steps; each checkout is the first one every other time."""
    folder.mkdir()
    trainings = [Training(medseg, prepared, folder / str(i), settings) for i, medseg in enumerate(checkouts)]
    try:
        for training in trainings:
            training.wait()
        blocks = []
        for i in range(steps // BLOCK):
            order = trainings if i % 2 else trainings[::-1]
            taken = {training: training.block() for training in order}
            blocks.append((taken[trainings[0]], taken[trainings[1]]))
        return blocks
    finally:
        for training in trainings:
            training.end()


class Training:
    """A process that trains, a block of steps each time that it is told to."""

    def __init__(self, medseg: Medseg, prepared: Path, run: Path, settings: list[str]) -> None:
        self.log = run.with_suffix(".log")
        arguments = [str(prepared.resolve()), "-o", str(run.resolve()), "--device", "cpu", *settings]
        self.process = subprocess.Popen(
            [sys.executable, __file__, TURNS, "train", *arguments],
            env=medseg.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )

    def wait(self) -> str:
        """Waits for what the process tells: that it is ready, or the seconds of its steps."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args}: it ended\n{self.log.read_text()[-3000:]}")
        return line

    def block(self) -> float:
        """Milliseconds of a step of the next block."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return 1000 * float(self.wait()) / BLOCK

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def train_in_turn(arguments: list[str]) -> None:
    """Runs 'medseg train' in this process, which waits after each block of steps for a line on its standard input."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    tell = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else is told there
    count, start = 0, 0.0

    def after_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
        nonlocal count, start
        count += 1
        if count < WARM_UP or (count - WARM_UP) % BLOCK:
            return
        tell.write("ready\n" if count == WARM_UP else f"{time.perf_counter() - start}\n")
        if not sys.stdin.readline():
            os._exit(0)
        start = time.perf_counter()

    register_optimizer_step_post_hook(after_step)
    from medseg.cli.main import main as medseg

    sys.argv = ["medseg", *arguments]
    medseg()


if __name__ == "__main__":
    main()
