"""How good masks become click by click, and how long answers take.

    python benchmarks/interactive.py clicks RUN DATASET [--structure NAME] [--start nothing] [--against] [-o DIR]
    python benchmarks/interactive.py times [--runs 5]

``clicks`` lets a simulated user click on the cases that RUN was not trained on ('medseg evaluate --clicks 10'), with
--against a random walker and a graph cut on the same clicks, and says which of the goals are reached. ``times`` draws a
CT of 512×512×300 voxels and measures a session on it with a network as 'medseg train --prompts' plans it for such a CT
(untrained: the time is the same), by torch and by OpenVINO.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import torch
from environment import describe

import medseg
from medseg.architecture import PROMPT_CHANNELS, Architecture, PromptChannels
from medseg.config import InferenceConfig
from medseg.device import choose_device
from medseg.evaluation.clicks_json import MODEL, ClicksRecord
from medseg.inferers.backends import noise, with_backend
from medseg.inferers.model import Model
from medseg.inferers.model_record import ModelRecord
from medseg.interactive.click_evaluation import CLASSICAL
from medseg.interactive.session import InteractiveSession
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Grid, Normalization, Plan
from medseg.volume import Geometry, Volume

# The goals of structures that the network was trained on, and of others.
KNOWN = {5: 0.92}
UNKNOWN = {1: 0.55, 3: 0.70, 5: 0.78, 10: 0.85}
BETTER_THAN_WALKER = 0.2  # after one to five clicks
GAIN_OF_FIRST_CLICK = 0.01

Result = TypeVar("Result")

SHAPE, SPACING = (512, 512, 300), (0.8, 0.8, 1.5)
PATCH, PLANNED_SPACING = (96, 96, 96), (1.5, 1.5, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    clicking = commands.add_parser("clicks")
    clicking.add_argument("run", type=Path)
    clicking.add_argument("dataset", type=Path)
    clicking.add_argument("--structure", action="append")
    clicking.add_argument("--start", choices=("automatic", "nothing"), default="automatic")
    clicking.add_argument("--against", action="store_true")
    clicking.add_argument("--seed", type=int, default=0)
    clicking.add_argument("-o", "--output", type=Path)
    timing = commands.add_parser("times")
    timing.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(describe())
    if arguments.command == "times":
        times(arguments.runs)
    else:
        clicks(arguments)


def clicks(arguments: argparse.Namespace) -> None:
    record = medseg.evaluate_clicks(
        arguments.run,
        arguments.dataset,
        arguments.output,
        start=arguments.start,
        methods=tuple(CLASSICAL) if arguments.against else (),
        structures=arguments.structure,
        seed=arguments.seed,
        backend="torch",
    )
    print(table(record))
    for goal in goals(record, known=arguments.start == "automatic"):
        print(f"* {goal}")


def table(record: ClicksRecord) -> str:
    """Mean Dice and surface Dice after so many clicks, as Markdown."""
    counts = record.counts
    rows = [
        "| structure | method | objects | " + " | ".join(f"Dice {n}" for n in counts) + " | surface Dice "
        f"{counts[-1]} | lowest | AUC | NoC@85 | NoC@90 |",
        "| --- " * (8 + len(counts)) + "|",
    ]
    for structure, methods in record.summary.items():
        for method, of in methods.items():
            dice = [f"{of.dice[n]:.3f}" if n in of.dice else "–" for n in counts]
            noc = [f"{each:.1f}" for each in of.noc.values()] or ["–", "–"]
            auc = "–" if of.auc is None else f"{of.auc:.3f}"
            cells = [
                structure,
                method,
                str(of.objects),
                *dice,
                f"{of.surface_dice[counts[-1]]:.3f}",
                f"{of.lowest:.3f}",
            ]
            rows.append("| " + " | ".join([*cells, auc, *noc]) + " |")
    return "\n".join(rows) + f"\n\nMedian seconds an answer: {record.seconds_per_answer:.2f}\n"


def goals(record: ClicksRecord, known: bool) -> list[str]:
    """Which of the goals are reached, in words."""
    of_all = record.summary["all"]
    dice = of_all[MODEL].dice
    wanted = KNOWN if known else UNKNOWN
    lines = [
        f"{count} clicks: {dice[count]:.3f}, wanted {goal}: {verdict(dice[count] >= goal)}"
        for count, goal in wanted.items()
    ]
    if known:
        gain = dice[1] - dice[0]
        lines.append(
            f"the first click adds {gain:+.3f}, wanted {GAIN_OF_FIRST_CLICK:+}: {verdict(gain >= GAIN_OF_FIRST_CLICK)}"
        )
    worse = [each for each in record.objects if each.methods[MODEL].dice[10] < each.methods[MODEL].dice[5]]
    by = max((each.methods[MODEL].dice[5] - each.methods[MODEL].dice[10] for each in worse), default=0.0)
    lines.append(
        f"worse after 10 clicks than after 5: {len(worse)} of {len(record.objects)} objects, by at most {by:.3f}"
    )
    for name in CLASSICAL:
        if name in of_all:
            ahead = {n: dice[n] - of_all[name].dice[n] for n in (1, 3, 5)}
            least = min(ahead.values())
            text = ", ".join(f"{gain:+.3f}" for gain in ahead.values())
            lines.append(
                f"ahead of the {name} after 1, 3, 5 clicks: {text}, wanted +.2: {verdict(least >= BETTER_THAN_WALKER)}"
            )
    return lines


def verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def times(runs: int) -> None:
    """Prints how long a session on a large CT takes to begin, and its answers: by the clock, and of the processor.

    On a machine that others use, half the seconds of the processor are what two free cores would take. A network that
    finds nothing looks once; one that finds noise everywhere looks as often as it may: at all zooms, then in detail.
    """
    volume = drawn_ct()
    print("\n| back end | | session begins | one window | all zooms, then eight windows in detail | peak MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for backend in ("torch", "openvino"):
        window = noise(1 + len(PROMPT_CHANNELS), PATCH)
        nothing, everywhere = (with_backend(untrained(finds), backend, window) for finds in (False, True))
        session, begin = measured(lambda nothing=nothing: InteractiveSession(nothing, volume))
        small = clicks_of(session, runs)
        large = clicks_of(InteractiveSession(everywhere, volume), 1)
        peak = psutil.Process().memory_info().rss / 2**20
        for i, what in enumerate(("clock, s", "processor, s")):
            cells = [f"{each[i]:.2f}" for each in (begin, small, large)]
            print("| " + " | ".join([nothing.backend, what, *cells, f"{peak:.0f}"]) + " |", flush=True)


def clicks_of(session: InteractiveSession, runs: int) -> tuple[float, float]:
    """The median seconds of clicks at other places of a session, after one that warms up."""
    points = [(150 + 20 * run, 260, 120 + 5 * run) for run in range(runs + 1)]
    taken = [measured(partial(session.add_point, point))[1] for point in points]
    clock, processor = (statistics.median(each) for each in zip(*taken[1:], strict=True))
    return clock, processor


def measured(call: Callable[[], Result]) -> tuple[Result, tuple[float, float]]:
    """What a call returns, and the seconds that it took, by the clock and of the processor."""
    start, processor = time.perf_counter(), time.process_time()
    result = call()
    return result, (time.perf_counter() - start, time.process_time() - processor)


def drawn_ct() -> Volume:
    """A body of noise with an ellipsoid in it, int16."""
    random = np.random.default_rng(0)
    array = random.normal(40, 20, SHAPE).astype(np.int16)
    x, y, z = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    array[(((x - 250) / 220) ** 2 + ((y - 260) / 180) ** 2 > 1)[:, :, 0]] = -1000
    array[((x - 250) / 90) ** 2 + ((y - 260) / 80) ** 2 + ((z - 140) / 60) ** 2 < 1] += 80
    return Volume(array[None], Geometry(SHAPE, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])))


class Silent(torch.nn.Module):
    """A network whose logits are lower by some number."""

    def __init__(self, network: torch.nn.Module, by: float) -> None:
        super().__init__()
        self.network, self.by = network, by

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image) - self.by


def untrained(finds: bool) -> Model:
    """A network as it is planned for a CT on a processor: 96³ voxels of 1.5 mm, from 16 features on.

    What it finds is noise, or nothing.
    """
    architecture = Architecture(
        features=(16, 32, 64, 128, 160, 160),
        strides=((1, 1, 1), *((2, 2, 2),) * 5),
        kernel_sizes=((3, 3, 3),) * 6,
        prompts=PromptChannels(point_radius_mm=6, scribble_radius_mm=2),
    )
    ct = Normalization(kind="ct", lower=-160, upper=240, mean=40, std=80)
    grid = Grid(orientation="RAS", spacing=PLANNED_SPACING, crop_to_nonzero=False, normalization=(ct,))
    plan = Plan(dims=3, grid=grid, patch_size=PATCH, batch_size=2, slice_axis=None, architecture=architecture)
    labels = Labels.from_names({"organ": 1})
    record = ModelRecord(
        medseg=medseg.__version__, plan=plan, labels=labels, channels=("CT",), inference=InferenceConfig(),
        provenance={}, metrics={},
    )  # fmt: skip
    torch.manual_seed(0)
    device = choose_device("cpu")
    network = Silent(build_network(1, len(record.outputs), architecture), 0.0 if finds else 1e4).eval()
    return replace(Model(Path("untrained"), record, network, device), network=device.place(network, 3))


if __name__ == "__main__":
    main()
