"""nnU-Net 2.8.1: its own plan, trainer and predictor; the clock takes the place of its thousand epochs.

The learning rate decays by the clock over the minutes, which begin when its Python starts. Planning, preprocessing
and prediction are not counted. It predicts as by default (half of a window between neighbours, Gaussian weights, the
weights of the last step), but without mirroring, as all the tools.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from dataset_runs.outcome import Outcome, timed
from dataset_runs.sources import SOURCES, DatasetFolder

SCRIPT = Path(__file__).parents[1] / "nnunet_training.py"
SPLITS = "splits_final.json"
SMALL_GB = 1  # of the memory that nnU-Net plans for, where it is asked for a smaller plan than the default

Places = dict[str, str]


def train_and_predict(
    dataset: DatasetFolder, folder: Path, minutes: float, seed: int, python: Path, small: bool = False
) -> Outcome:
    places, plans = planned(dataset, python, small)
    predicted = dataset.heldback, folder / "masks"
    told = trained(python, places, plans, _configuration(dataset), folder, minutes * 60, seed, predicted)
    told = {key: told[key] for key in ("version", "plan", "steps", "training_seconds")}
    return Outcome(folder / "masks", **told, seconds=told["training_seconds"])


def trained(
    python: Path, places: Places, plans: Path, configuration: str, folder: Path, seconds: float, seed: int,
    predicted: tuple[Path, Path],
) -> dict:  # fmt: skip
    """Trains by the clock, and predicts images of the first folder into the second; returns nnunet_training's record.

    The record, the log and nnU-Net's own results lie in ``folder``.
    """
    output = folder / "record.json"
    environment = {**places, "nnUNet_results": str(folder / "results"), "nnUNet_compile": "f"}
    command = [python, "-P", SCRIPT, plans, configuration, output, "--begun", time.time(), "--seconds", seconds]
    timed([*command, "--seed", seed, "--predict", *predicted], folder / "log.txt", **environment)
    return json.loads(output.read_text())


def planned(dataset: DatasetFolder, python: Path, small: bool) -> tuple[Places, Path]:
    """Returns nnU-Net's folders and its preprocessed dataset, which are made once."""
    number = 1 + list(SOURCES).index(dataset.name)
    base = dataset.folder / ("nnunet-small" if small else "nnunet")
    places, identifier = places_in(base), f"Dataset{number:03d}_{dataset.name.replace('-', '_')}"
    preprocessed = base / "preprocessed" / identifier
    if (preprocessed / SPLITS).is_file():
        return places, preprocessed
    shutil.rmtree(base, ignore_errors=True)
    (base / "raw").mkdir(parents=True)
    shutil.copytree(dataset.raw, base / "raw" / identifier)
    gigabytes = SMALL_GB if small else None
    plan(python, places, number, _configuration(dataset), gigabytes, dataset.folder / "nnunet.log")
    split = dataset.split
    write_split(preprocessed, split.training, split.validation)
    return places, preprocessed


def places_in(base: Path) -> Places:
    """Returns nnU-Net's three folders, as its environment variables name them."""
    return {f"nnUNet_{part}": str(base / part) for part in ("raw", "preprocessed", "results")}


def plan(python: Path, places: Places, number: int, configuration: str, gigabytes: float | None, log: Path) -> None:
    """Plans and preprocesses a raw dataset; for so much memory, None: nnU-Net's default."""
    command = [python.with_name("nnUNetv2_plan_and_preprocess"), "-d", number, "-c", configuration, "-npfp", 2]
    command += ["-np", 2, *([] if gigabytes is None else ["-gpu_memory_target", gigabytes])]
    timed(command, log, **places)


def write_split(preprocessed: Path, training: Sequence[str], validation: Sequence[str]) -> None:
    """Writes the only fold."""
    (preprocessed / SPLITS).write_text(json.dumps([{"train": list(training), "val": list(validation)}]))


def _configuration(dataset: DatasetFolder) -> str:
    return "2d" if dataset.source.dims == 2 else "3d_fullres"
