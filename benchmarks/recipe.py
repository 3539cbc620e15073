"""The search for the recipe: trains with other settings for the same time, on fold 0, and adds a line each to a log.

    python benchmarks/recipe.py HIPPOCAMPUS --max-time 5m --try "augmentation.mirror=all" --try "training.optimizer=sgd
    training.learning_rate=0.01 training.schedule=poly"

The split is nnU-Net's: KFold(5, shuffle=True, random_state=12345) over sorted names; Dice is that of the held-back
cases on their source grids. Runs that compete for the processor say nothing. ``recipe.csv`` is the log.
"""

import argparse
import csv
import datetime
import statistics
import tempfile
from pathlib import Path
from typing import Any

from environment import processor
from training import outcome

import medseg
from medseg.config import load
from medseg.setting_types import seconds

LOG = Path(__file__).with_suffix(".csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--dims", type=int, choices=(2, 3), default=3)
    parser.add_argument("--max-time", default="5m")
    parser.add_argument("--try", dest="tries", action="append", default=[], help="settings, section.key=value each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        prepared = Path(temporary) / "prepared"
        medseg.preprocess(arguments.source, prepared)
        for i, settings in enumerate(arguments.tries):
            row = trained(prepared, Path(temporary) / str(i), arguments.dims, arguments.max_time, settings)
            add(row)
            print(row, flush=True)


def trained(prepared: Path, run: Path, dims: Any, max_time: str, settings: str) -> dict[str, object]:
    # Not as wide as there is time for: how wide it should be is what some of these runs ask.
    fixed = ["training.fit_to_time=false", f"training.max_time={max_time}"]
    config = load(overrides=[*fixed, *settings.split()])
    result = medseg.train(prepared, run, dims=dims, config=config)
    _, steps, speed, dice = outcome(run, result.seconds)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "dims": dims,
        "seconds": seconds(max_time),
        "settings": settings,
        "steps": steps,
        "samples_per_second": round(speed, 2),
        "mean_dice": round(statistics.fmean(dice.values()), 4),
        **{f"dice_{name.lower()}": round(value, 4) for name, value in dice.items()},
    }


def add(row: dict[str, object]) -> None:
    new = not LOG.exists()
    with LOG.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
