"""Prepares MSD Task04 Hippocampus, trains for a given time and prints the validation metrics of fold 0.

    python benchmarks/hippocampus.py HIPPOCAMPUS --dims 3 --max-time 10m

The split is nnU-Net's: KFold(5, shuffle=True, random_state=12345) over sorted names.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from environment import describe

import medseg
from medseg.config import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--dims", type=int, choices=(2, 3), default=3)
    parser.add_argument("--max-time", default="10m")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--keep", type=Path, help="folder to keep the prepared dataset and the run in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        prepared = folder / "prepared"
        if not prepared.is_dir():
            medseg.preprocess(arguments.source, prepared)
        config = load(overrides=[f"training.max_time={arguments.max_time}", *arguments.settings])
        start = time.perf_counter()
        run = folder / f"run_{arguments.dims}d_{int(time.time())}"
        result = medseg.train(prepared, run, dims=arguments.dims, config=config)
        seconds = time.perf_counter() - start
        metrics = json.loads((run / "validation" / "metrics.json").read_text())["summary"]
    print(describe())
    print("\n| dims | max time | wall (s) | steps | settings | label | Dice | HD95 (mm) | surface Dice at 1 mm |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    first = (arguments.dims, arguments.max_time, f"{seconds:.0f}", result.steps, " ".join(arguments.settings))
    rows = {name: label["metrics"] for name, label in metrics["labels"].items()} | {"mean": metrics["over_labels"]}
    for name, row in rows.items():
        measured = [row[metric]["mean"] for metric in ("dice", "hd95_mm", "surface_dice")]
        print("|", " | ".join([*map(str, first), name, *(f"{value:.4f}" for value in measured)]), "|")


if __name__ == "__main__":
    main()
