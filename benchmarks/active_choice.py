"""Does it help to choose which case is annotated next? Active choice against random choice, from 8 to 64 cases.

    python benchmarks/active_choice.py PREPARED --test split.json --log active_choice.csv --steps 120
    python benchmarks/active_choice.py --log active_choice.csv --table --plot active_choice.png

A pool of cases whose label maps are hidden stands for images that nobody has drawn yet. The first eight are drawn by
chance, the same ones for all strategies of a seed. A small network is trained on them from scratch, a strategy of
``medseg annotate`` chooses as many cases again, and so on. Each network is measured on the same held-back cases.
Steps are counted, not seconds, so that a busy machine changes nothing. What stands in the log is not done again.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from matplotlib.figure import Figure

from medseg.annotation.next_case import STRATEGIES, Candidates, image_features
from medseg.config import InferenceConfig, load
from medseg.dataset.patches import PatchSampler
from medseg.dataset.store import PreparedDataset
from medseg.decoding import decoding_of
from medseg.device import choose_device
from medseg.inferers.case_stream import CaseStream
from medseg.inferers.confidence import Confidence
from medseg.inferers.predictor import Predictor
from medseg.networks import create_network
from medseg.plan import Plan
from medseg.table import read_table, write_table
from medseg.training.parts import make_trainer
from medseg.training.validation import validate
from medseg.volume import Volume

COLUMNS = ("dataset", "strategy", "seed", "cases", "dice", "steps", "features", "pool", "test")
SIZES = (8, 16, 32, 64)
FEATURES = (12, 24, 48, 96)
WINDOWS = InferenceConfig(mirror=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", type=Path, nargs="?")
    parser.add_argument("--name", default="", help="of the dataset in the log")
    parser.add_argument("--test", type=Path, help='JSON whose "heldback" or "validation" names the cases to measure on')
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--strategies", nargs="*", default=["random", "doubtful and unlike"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--patch", type=int, nargs="*", help="along each axis, in place of the plan's")
    parser.add_argument("--dims", type=int, choices=(2, 3), default=3)
    parser.add_argument("--pool", type=int, default=128, help="most cases to choose from")
    parser.add_argument("--most-tested", type=int, default=40)
    parser.add_argument("--table", action="store_true", help="of what was measured; nothing is trained")
    parser.add_argument("--plot", type=Path, help="where the curves are drawn")
    arguments = parser.parse_args()
    if not arguments.table:
        Comparison(arguments).run()
    print(table(arguments.log))
    if arguments.plot:
        plot(arguments.log, arguments.plot)


class Comparison:
    """All strategies and seeds on one dataset."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.name = arguments.name or arguments.prepared.parent.name
        self.dataset = PreparedDataset(arguments.prepared)
        plan = self.dataset.plans.plan_2d if arguments.dims == 2 else self.dataset.plans.plan_3d
        stages = min(len(FEATURES), len(plan.architecture.features))
        architecture = plan.architecture.model_copy(
            update={
                "features": FEATURES[:stages],
                "strides": plan.architecture.strides[:stages],
                "kernel_sizes": plan.architecture.kernel_sizes[:stages],
            }
        )
        changes = {"architecture": architecture, "batch_size": arguments.batch}
        if arguments.patch:
            changes["patch_size"] = tuple(arguments.patch)
        self.plan: Plan = plan.model_copy(update=changes)
        self.device = choose_device("cpu")
        split = json.loads(arguments.test.read_text())
        held = next(split[key] for key in ("heldback", "held_back", "validation", "test") if key in split)
        known = [case_id for case_id in held if case_id in self.dataset.cases]
        others = sorted(set(self.dataset.cases) - set(known))
        draw = np.random.default_rng(0)
        self.test = sorted(draw.permutation(known)[: arguments.most_tested].tolist())
        self.pool = sorted(draw.permutation(others)[: arguments.pool].tolist())
        self.features = {case_id: self._features(case_id) for case_id in self.pool}

    def run(self) -> None:
        """Trains what the log has not yet, and writes a row after each."""
        for seed in self.arguments.seeds:
            for strategy in self.arguments.strategies:
                self._run(strategy, seed)

    def _run(self, strategy: str, seed: int) -> None:
        drawn = np.random.default_rng(seed).permutation(self.pool)[: self.arguments.sizes[0]].tolist()
        for size, following in zip(self.arguments.sizes, [*self.arguments.sizes[1:], None], strict=True):
            chosen = self._logged(strategy, seed, size)
            if chosen is None:
                network = self._trained(drawn, seed)
                predictor = Predictor(network, self.plan, self.device)
                dice = validate(predictor, self.dataset.subset(self.test), WINDOWS).mean_dice
                doubt = {} if following is None or strategy == "random" else self._doubts(network, drawn)
                chosen = self._chosen(strategy, drawn, (following or size) - size, doubt, seed)
                self._log(strategy, seed, size, dice, chosen)
                print(f"{self.name} {strategy} seed {seed}: {size} cases, Dice {dice:.4f}", flush=True)
            drawn = [*drawn, *chosen]

    def _chosen(self, strategy: str, drawn: list[str], n: int, doubt: dict[str, float], seed: int) -> list[str]:
        """Returns the next cases, one after the other: those that were chosen count as drawn for the next one."""
        chosen: list[str] = []
        while len(chosen) < n:
            done = [*drawn, *chosen]
            waiting = [case_id for case_id in self.pool if case_id not in set(done)]
            candidates = Candidates(waiting, done, self.features, doubt, seed)
            chosen.append(STRATEGIES[strategy](candidates).case_id)
        return chosen

    def _trained(self, case_ids: list[str], seed: int) -> torch.nn.Module:
        steps = self.arguments.steps
        torch.manual_seed(seed)
        channels, labels = len(self.dataset.record.channels), len(self.dataset.labels.items)
        network = create_network("unet", in_channels=channels, out_channels=labels + 1, plan=self.plan)
        settings = [f"training.steps_per_epoch={steps}", "training.epochs=1", f"training.seed={seed}"]
        trainer = make_trainer(network, self.plan, load(None, settings), self.device)
        sampler = PatchSampler(
            self.dataset.subset(sorted(case_ids)),
            self.plan,
            batch_size=self.arguments.batch,
            foreground_fraction=1 / 3,
            seed=seed,
        )
        trainer.fit(sampler)
        return trainer.average

    def _doubts(self, network: torch.nn.Module, drawn: list[str]) -> dict[str, float]:
        """Returns 1 minus the expected Dice of each case that is not drawn; a label that is not found counts as 0."""
        doubts = {}
        predictor = Predictor(network, self.plan, self.device)
        for case_id in sorted(set(self.pool) - set(drawn)):
            image = torch.from_numpy(self.dataset.image(case_id).astype(np.float32))
            confidence = Confidence(self.dataset.labels, decoding_of(self.plan), tuple(image.shape[1:]))
            for slab in CaseStream(predictor, image, WINDOWS).slabs():
                confidence.take(slab)
            doubts[case_id] = 1 - sum(confidence.expected_dice.values()) / len(self.dataset.labels.items)
        return doubts

    def _features(self, case_id: str) -> np.ndarray:
        image = self.dataset.image(case_id).astype(np.float32)
        return image_features(Volume(image, self.dataset.model_grid(case_id)))

    def _logged(self, strategy: str, seed: int, size: int) -> list[str] | None:
        wanted = {"dataset": self.name, "strategy": strategy, "seed": str(seed), "cases": str(size)}
        for row in rows(self.arguments.log):
            if wanted.items() <= row.items():
                return row["chosen"].split()
        return None

    def _log(self, strategy: str, seed: int, size: int, dice: float, chosen: list[str]) -> None:
        known = rows(self.arguments.log)
        known.append(
            {
                "dataset": self.name,
                "strategy": strategy,
                "seed": str(seed),
                "cases": str(size),
                "dice": f"{dice:.4f}",
                "steps": str(self.arguments.steps),
                "features": "-".join(map(str, self.plan.architecture.features)),
                "pool": str(len(self.pool)),
                "test": str(len(self.test)),
                "chosen": " ".join(chosen),
            }
        )
        write_table(self.arguments.log, [*COLUMNS, "chosen"], known)


def rows(log: Path) -> list[dict[str, str]]:
    """What was measured before."""
    return read_table(log, "remove it") if log.is_file() else []


def curves(log: Path) -> dict[tuple[str, str], dict[int, list[float]]]:
    """Returns the Dice of each seed by number of cases, by dataset and strategy."""
    found: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows(log):
        found[row["dataset"], row["strategy"]][int(row["cases"])].append(float(row["dice"]))
    return {which: dict(sorted(found[which].items())) for which in sorted(found)}


def table(log: Path) -> str:
    """Mean Dice and standard deviation over seeds, by dataset, strategy and number of cases."""
    found = curves(log)
    sizes = sorted({size for values in found.values() for size in values})
    lines = [
        f"| dataset | chosen | {' | '.join(f'{size} cases' for size in sizes)} |",
        "| --- " * (len(sizes) + 2) + "|",
    ]
    for (dataset, strategy), values in found.items():
        cells = [
            f"{fmean(values[size]):.4f} ± {stdev(values[size]):.4f} ({len(values[size])})"
            if len(values.get(size, [])) > 1
            else "".join(f"{value:.4f} (1)" for value in values.get(size, []))
            for size in sizes
        ]
        lines.append(f"| {dataset} | {strategy} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(log: Path, output: Path) -> None:
    """Draws mean Dice by number of cases, a dataset beside the other; thin lines are single seeds."""
    found = curves(log)
    datasets = sorted({dataset for dataset, _ in found})
    figure = Figure(figsize=(4.5 * len(datasets), 3.4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        strategies = [strategy for name, strategy in found if name == dataset]
        for colour, strategy in zip(("C0", "C1", "C2", "C3"), strategies, strict=False):
            values = found[dataset, strategy]
            axes.plot([*values], [fmean(each) for each in values.values()], "o-", color=colour, label=strategy)
            seeds = min(len(each) for each in values.values())
            for seed in range(seeds):
                axes.plot([*values], [each[seed] for each in values.values()], color=colour, linewidth=0.5, alpha=0.6)
        axes.set(title=dataset, xlabel="annotated cases", ylabel="mean Dice of held-back cases", xscale="log")
        axes.set_xticks([*values], [str(size) for size in values], minor=False)
        axes.minorticks_off()
        axes.legend()
    figure.savefig(output, dpi=90)


if __name__ == "__main__":
    main()
