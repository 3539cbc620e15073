"""medseg as it comes: 'medseg train --max-time', and 'medseg predict' with the weights of its last step."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from dataset_runs.outcome import Outcome, timed
from dataset_runs.sources import DatasetFolder
from medseg.version import VERSION


def train_and_predict(dataset: DatasetFolder, folder: Path, minutes: float, seed: int, settings: list[str]) -> Outcome:
    run, log = folder / "run", folder / "log.txt"
    medseg = [sys.executable, "-m", "medseg"]
    command = [*medseg, "train", dataset.prepared, "-o", run, "--dims", dataset.source.dims, "--seed", seed]
    command += ["--max-time", f"{round(minutes * 60)}s", "--set", f"training.folds={dataset.source.folds}"]
    seconds = timed([*command, *(part for setting in settings for part in ("--set", setting))], log)
    record = json.loads((run / "run.json").read_text())
    if tuple(record["validation"]) != dataset.split.validation:
        raise SystemExit(f"{run}: other cases are held back than in {dataset.folder / 'split.json'}")
    timed([*medseg, "predict", run / "model-last", dataset.heldback, "-o", folder / "masks"], log)
    timed([*medseg, "predict", run / "model", dataset.heldback, "-o", folder / "selected"], log)
    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    last = epochs[-1]
    return Outcome(
        masks=folder / "masks",
        version=f"{VERSION} ({commit()})",
        plan=described(record["plan"]),
        steps=int(last["step"]),
        training_seconds=float(last["seconds"]),
        seconds=seconds,
        selected=folder / "selected",
    )


def described(plan: dict) -> str:
    patch = "×".join(str(n) for axis, n in enumerate(plan["patch_size"]) if axis != plan["slice_axis"])
    return f"{plan['batch_size']} of {patch}, {'-'.join(map(str, plan['architecture']['features']))}"


def commit() -> str:
    """Returns the commit of this checkout, with a + where files were changed."""
    command = ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
