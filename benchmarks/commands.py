"""Whole commands of medseg on the hippocampus, and the data and models that they need: what the measurements time."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
N_TO_PREDICT = 31
# Two epochs, without the time that a final validation of many cases takes.
SHORT = ("training.epochs=2", "training.folds=50", "training.validation_share=0.001")


@dataclass(frozen=True)
class Medseg:
    """The commands of one checkout.

    Attributes:
        checkout: The folder that ``medseg`` is imported from.
    """

    checkout: Path = REPOSITORY

    def environment(self) -> dict[str, str]:
        """The environment of a process that imports this checkout."""
        return {**os.environ, "PYTHONPATH": str(self.checkout.resolve())}

    def run(self, *arguments: object) -> float:
        """Runs a command; returns its seconds, imports included."""
        # Python takes modules of the folder that it is in before all others.
        parts = [str(part.resolve()) if isinstance(part, Path) else str(part) for part in arguments]
        command, folder = [sys.executable, "-m", "medseg", *parts], self.checkout
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=self.environment(), capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"medseg {' '.join(command[3:])}: exit status {done.returncode}\n{done.stderr[-3000:]}")
        return seconds

    def preprocess(self, source: Path, output: Path) -> float:
        shutil.rmtree(output, ignore_errors=True)
        return self.run("preprocess", source, "-o", output)

    def train(self, prepared: Path, output: Path, dims: int, steps: int, settings: list[str]) -> float:
        """Trains so many steps, in two epochs."""
        shutil.rmtree(output, ignore_errors=True)
        all_settings = [*SHORT, f"training.steps_per_epoch={steps // 2}", *settings]
        return self.run("train", prepared, "-o", output, "--dims", dims, "--device", "cpu", *flags(all_settings))

    def predict(self, run: Path, images: Path, output: Path, *options: object) -> float:
        shutil.rmtree(output, ignore_errors=True)
        return self.run("predict", run, images, "-o", output, "--device", "cpu", *options)

    def evaluate(self, predictions: Path, references: Path, output: Path) -> float:
        shutil.rmtree(output, ignore_errors=True)
        return self.run("evaluate", predictions, references, "-o", output)


def flags(settings: list[str]) -> list[str]:
    """Settings as the command line takes them."""
    return [flag for setting in settings for flag in ("--set", setting)]


def step_seconds(run: Path) -> float:
    """The time that the steps of a run took, without validation and start."""
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    steps = [int(row["step"]) for row in rows]
    by_epoch = [after - before for before, after in zip([0, *steps], steps, strict=False)]
    batch = json.loads((run / "run.json").read_text())["plan"]["batch_size"]
    return sum(batch * n / float(row["samples_per_second"]) for n, row in zip(by_epoch, rows, strict=True))


def some_images(source: Path, folder: Path, count: int = N_TO_PREDICT) -> Path:
    """A folder with copies of the first images of a dataset."""
    folder.mkdir(parents=True)
    for path in sorted((source / "imagesTr").glob("*.nii.gz"))[:count]:
        shutil.copy(path, folder)
    return folder


def shifted(references: Path, folder: Path) -> Path:
    """A folder with the label maps of another, each moved by a voxel: predictions that are nearly right."""
    folder.mkdir(parents=True)
    for path in references.glob("*.nii.gz"):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.roll(np.asanyarray(image.dataobj), 1, 0), image.affine), folder / path.name)
    return folder
