"""medseg, nnU-Net and MONAI's DynUNet on six datasets, in the same minutes on the same machine.

    python benchmarks/datasets.py --make --peer PEER/bin/python                        the six datasets, and no training
    python benchmarks/datasets.py --only sarcoma-ct --tool medseg --minutes 5 --seed 0           one training, scored
    python benchmarks/datasets.py --tool medseg dynunet --minutes 5 20 --seed 0 1                all that is missing
    python benchmarks/datasets.py --table                                                        the table, as Markdown

Each training adds a line to datasets.csv (--log); what stands there is not done again (--again does it). Data come from
../shared/data (--data), and are made once into --work. nnU-Net needs an environment of its own with nnunetv2 2.8.1
(--peer, the Python of it).

All tools train on the same cases and are scored on the same held-back patients, by medseg.evaluate on the grids of the
source files: with the weights of the last step, by windows that overlap by half, without mirroring. medseg's minutes
hold all of 'medseg train', its final validation too; those of the others hold imports and training, while planning,
preprocessing and prediction are not counted. nnunet-small is nnU-Net planned for 1 GB instead of 8.
"""

import argparse
import csv
import datetime
import json
import os
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from dataset_runs import dynunet_run, medseg_run, nnunet_run
from dataset_runs.outcome import Outcome
from dataset_runs.sources import SOURCES, DatasetFolder, made
from environment import instructions, processor

import medseg
from medseg.labels import Labels

LOG = Path(__file__).with_suffix(".csv")
NEED_PEER = {"nnunet", "nnunet-small"}
TOOLS = ("medseg", "nnunet", "nnunet-small", "dynunet")
TITLES = {"nnunet": "nnU-Net", "nnunet-small": "nnU-Net, planned for 1 GB", "dynunet": "DynUNet, nnU-Net's recipe"}
Row = dict[str, str]


def main() -> None:
    arguments = parsed()
    if arguments.table:
        print(table(rows_of(arguments.log)))
        return
    for name in arguments.only:
        dataset = made(name, arguments.data, arguments.work)
        print(f"{name}: {len(dataset.split.training)} cases, {len(dataset.split.validation)} held back", flush=True)
        if arguments.make:
            for tool in NEED_PEER & set(arguments.tool):
                nnunet_run.planned(dataset, arguments.peer, tool == "nnunet-small")
            continue
        for minutes, seed, tool in wanted(arguments):
            if not arguments.again and is_done(rows_of(arguments.log), name, tool, minutes, seed, arguments.settings):
                continue
            row = trained(dataset, tool, minutes, seed, arguments)
            add(arguments.log, row)
            print({key: row[key] for key in ("dataset", "tool", "minutes", "seed", "steps", "mean_dice")}, flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES), help="datasets")
    parser.add_argument("--tool", nargs="+", choices=TOOLS, default=["medseg", "nnunet", "dynunet"])
    parser.add_argument("--minutes", nargs="+", type=float, default=[5.0])
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of medseg, section.key=value")
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("/tmp/medseg-datasets"))
    parser.add_argument("--peer", type=Path, help="python of an environment with nnunetv2")
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--make", action="store_true", help="make the datasets and nnU-Net's plans, no more")
    parser.add_argument("--again", action="store_true", help="train what the log has already")
    parser.add_argument("--table", action="store_true", help="print the table of the log")
    arguments = parser.parse_args()
    if not arguments.table and arguments.peer is None and NEED_PEER & set(arguments.tool):
        parser.error("nnunet needs --peer, the python of an environment with nnunetv2; or leave it out by --tool")
    return arguments


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[float, int, str]]:
    for minutes in arguments.minutes:
        for seed in arguments.seed:
            for tool in arguments.tool:
                yield minutes, seed, tool


def trained(dataset: DatasetFolder, tool: str, minutes: float, seed: int, arguments: argparse.Namespace) -> Row:
    """Trains once and scores the masks; the folder of the run is kept, for those who want to look."""
    folder = dataset.folder / "runs" / f"{tool}_{minutes:g}m_{seed}_{datetime.datetime.now():%H%M%S}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    train: dict[str, Callable[[], Outcome]] = {
        "medseg": lambda: medseg_run.train_and_predict(dataset, folder, minutes, seed, arguments.settings),
        "nnunet": lambda: nnunet_run.train_and_predict(dataset, folder, minutes, seed, arguments.peer),
        "nnunet-small": lambda: nnunet_run.train_and_predict(dataset, folder, minutes, seed, arguments.peer, True),
        "dynunet": lambda: dynunet_run.train_and_predict(dataset, folder, minutes, seed),
    }
    outcome = train[tool]()
    dice, hd95 = scores(dataset, outcome.masks)
    selected = (
        "" if outcome.selected is None else f"{statistics.fmean(scores(dataset, outcome.selected)[0].values()):.4f}"
    )
    return {
        "date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
        "processor": this_machine(),
        "dataset": dataset.name,
        "tool": tool,
        "version": outcome.version,
        "minutes": f"{minutes:g}",
        "seed": str(seed),
        "settings": " ".join(arguments.settings) if tool == "medseg" else "",
        "plan": outcome.plan,
        "steps": str(outcome.steps),
        "training_seconds": f"{outcome.training_seconds:.0f}",
        "seconds": f"{outcome.seconds:.0f}",
        "mean_dice": f"{statistics.fmean(dice.values()):.4f}",
        "mean_hd95_mm": f"{statistics.fmean(hd95.values()):.2f}" if hd95 else "",
        "mean_dice_of_chosen_weights": selected,
        "dice": json.dumps({name: round(value, 4) for name, value in dice.items()}),
        "hd95_mm": json.dumps({name: round(value, 2) for name, value in hd95.items()}),
    }


def scores(dataset: DatasetFolder, masks: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the mean Dice and HD95 of each label over the held-back cases."""
    evaluation = medseg.evaluate(
        masks,
        dataset.raw / "labelsTr",
        metrics=["dice", "hd95_mm"],
        labels=Labels.from_names(dataset.source.labels),
        cases=dataset.split.validation,
    )
    measured = {name: label.metrics for name, label in evaluation.summary.labels.items()}
    dice = {name: metrics["dice"].mean for name, metrics in measured.items()}
    hd95 = {name: metrics["hd95_mm"].mean for name, metrics in measured.items()}
    return (
        {name: value for name, value in dice.items() if value is not None},
        {name: value for name, value in hd95.items() if value is not None},
    )


def rows_of(log: Path) -> list[Row]:
    if not log.is_file():
        return []
    with log.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_done(rows: list[Row], name: str, tool: str, minutes: float, seed: int, settings: list[str]) -> bool:
    wanted_row = (this_machine(), name, tool, f"{minutes:g}", str(seed), " ".join(settings) if tool == "medseg" else "")
    keys = ("processor", "dataset", "tool", "minutes", "seed", "settings")
    return any(tuple(row[key] for key in keys) == wanted_row for row in rows)


def this_machine() -> str:
    return f"{processor()} ({instructions()}), {len(os.sched_getaffinity(0))} cores"


def add(log: Path, row: Row) -> None:
    is_new = not log.is_file()
    with log.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def table(rows: list[Row]) -> str:
    """Returns a line for each processor, dataset, minutes, tool and settings: the last run of each seed, and means."""
    groups: dict[tuple[str, str, float, str, str], dict[str, Row]] = {}
    for row in rows:
        key = (row["processor"], row["dataset"], float(row["minutes"]), row["tool"], row["settings"])
        groups.setdefault(key, {})[row["seed"]] = row
    order = sorted(groups, key=lambda key: (key[0], list(SOURCES).index(key[1]), key[2], TOOLS.index(key[3]), key[4]))
    lines = [
        "| processor | dataset | minutes | tool | seeds | plan | steps | mean Dice | of each seed | of each label "
        "| HD95 (mm) | in all (s) |",
        "| --- " * 12 + "|",
    ]
    return "\n".join([*lines, *(_line(key, list(groups[key].values())) for key in order)])


def _line(key: tuple[str, str, float, str, str], rows: list[Row]) -> str:
    machine, name, minutes, tool, settings = key
    dice = [float(row["mean_dice"]) for row in rows]
    labels = [json.loads(row["dice"]) for row in rows]
    each = {label: statistics.fmean(of_seed[label] for of_seed in labels) for label in labels[0]}
    hd95 = [float(row["mean_hd95_mm"]) for row in rows if row["mean_hd95_mm"]]
    cells = [
        machine,
        name,
        f"{minutes:g}",
        TITLES.get(tool, tool) + (f", {settings}" if settings else ""),
        ", ".join(row["seed"] for row in rows),
        rows[-1]["plan"],
        ", ".join(row["steps"] for row in rows),
        f"{statistics.fmean(dice):.3f}",
        ", ".join(f"{value:.3f}" for value in dice),
        ", ".join(f"{label} {value:.3f}" for label, value in each.items()),
        f"{statistics.fmean(hd95):.1f}" if hd95 else "none",
        ", ".join(row["seconds"] for row in rows),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
