"""nnU-Net 2.8.1: its own plan, trainer and predictor; the clock takes the place of its thousand epochs.

The learning rate decays by the clock over the minutes, which begin when its Python starts. Planning, preprocessing
and prediction are not counted. It predicts as by default (half of a window between neighbours, Gaussian weights, the
weights of the last step), but without mirroring, as all the tools.
"""

import json
import shutil
import time
from pathlib import Path

from dataset_runs.outcome import Outcome, timed
from dataset_runs.sources import SOURCES, DatasetFolder

SCRIPT = Path(__file__).parents[1] / "nnunet_training.py"
SMALL_GB = 1  # of the memory that nnU-Net plans for, where it is asked for a smaller plan than the default


def train_and_predict(
    dataset: DatasetFolder, folder: Path, minutes: float, seed: int, python: Path, small: bool = False
) -> Outcome:
    places, plans = planned(dataset, python, small)
    configuration = "2d" if dataset.source.dims == 2 else "3d_fullres"
    output = folder / "record.json"
    environment = {**places, "nnUNet_results": str(folder / "results"), "nnUNet_compile": "f"}
    command = [python, "-P", SCRIPT, plans, configuration, output, "--begun", time.time(), "--seconds", minutes * 60]
    command += ["--seed", seed, "--predict", dataset.heldback, folder / "masks"]
    timed(command, folder / "log.txt", **environment)
    record = json.loads(output.read_text())
    told = {key: record[key] for key in ("version", "plan", "steps", "training_seconds")}
    return Outcome(folder / "masks", **told, seconds=told["training_seconds"])


def planned(dataset: DatasetFolder, python: Path, small: bool) -> tuple[dict[str, str], Path]:
    """Returns nnU-Net's folders and its preprocessed dataset, which are made once."""
    number = 1 + list(SOURCES).index(dataset.name)
    identifier = f"Dataset{number:03d}_{dataset.name.replace('-', '_')}"
    base = dataset.folder / ("nnunet-small" if small else "nnunet")
    places = {f"nnUNet_{part}": str(base / part) for part in ("raw", "preprocessed", "results")}
    preprocessed = base / "preprocessed" / identifier
    splits = preprocessed / "splits_final.json"
    if splits.is_file():
        return places, preprocessed
    shutil.rmtree(base, ignore_errors=True)
    (base / "raw").mkdir(parents=True)
    shutil.copytree(dataset.raw, base / "raw" / identifier)
    configuration = "2d" if dataset.source.dims == 2 else "3d_fullres"
    command = [python.with_name("nnUNetv2_plan_and_preprocess"), "-d", number, "-c", configuration, "-npfp", 2]
    command += ["-np", 2, *(["-gpu_memory_target", SMALL_GB] if small else [])]
    timed(command, dataset.folder / "nnunet.log", **places)
    split = dataset.split
    splits.write_text(json.dumps([{"train": split.training, "val": split.validation}]))
    return places, preprocessed
