"""Draws brains with tumours as BraTS has them; trains on labels (softmax) and on regions (sigmoids) for the same time.

There are four channels, and three regions in one another. Both train at once; printed are the metrics of the regions on
fold 0.

    python benchmarks/regions.py --cases 20 --max-time 10m
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from environment import describe
from scipy.ndimage import gaussian_filter

import medseg

EDGE = 48  # voxels of 1 mm
# Of brain, oedema (2), necrosis (1) and the enhancing part (4), in each channel: close to one another, as they are.
CHANNELS = {
    "FLAIR": (100, 140, 125, 135),
    "T1": (100, 88, 80, 90),
    "T1ce": (100, 92, 85, 140),
    "T2": (100, 135, 140, 120),
}
VALUES = (0, 2, 1, 4)
REGIONS = {"whole tumour": [1, 2, 4], "tumour core": [1, 4], "enhancing tumour": [4]}


def smooth(random: np.random.Generator, sigma: float) -> np.ndarray:
    noise = gaussian_filter(random.standard_normal((EDGE,) * 3), sigma)
    return noise / noise.std()


def draw(folder: Path, case_id: str, seed: int) -> None:
    """A tumour of uneven border, whose enhancing rim is broken, in smooth and fine noise."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(EDGE),) * 3, indexing="ij"))
    centre = EDGE / 2 + random.uniform(-8, 8, 3)
    distance = np.linalg.norm(grid - centre[:, None, None, None], axis=0) + 1.5 * smooth(random, 3)
    whole, core = random.uniform(9, 15), random.uniform(4, 8)
    rim = (distance > core - 2.5) & (smooth(random, 2) > -0.8)
    kinds = np.where(distance < core, np.where(rim, 3, 2), np.where(distance < whole, 1, 0))
    for i, brightness in enumerate(CHANNELS.values()):
        image = gaussian_filter(np.array(brightness, float)[kinds], 0.7)
        image += 8 * smooth(random, 4) + random.normal(0, 12, image.shape)
        name = folder / "imagesTr" / f"{case_id}_{i:04d}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image.astype(np.int16), np.eye(4)), name)
    label_map = np.array(VALUES, np.uint8)[kinds]
    nibabel.save(nibabel.Nifti1Image(label_map, np.eye(4)), folder / "labelsTr" / f"{case_id}.nii.gz")


def draw_all(folder: Path, n_cases: int) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for seed in range(n_cases):
        draw(folder, f"brain_{seed:02d}", seed)
    content = {
        "channel_names": {str(i): name for i, name in enumerate(CHANNELS)},
        "labels": {"background": 0, **REGIONS},
        "regions_class_order": [2, 1, 4],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--max-time", default="10m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    print(describe())
    print("\n| outputs | seed | steps | region | Dice | HD95 (mm) | surface Dice at 1 mm |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        medseg.preprocess(draw_all(folder / "Dataset137_Brains", arguments.cases), folder / "prepared")
        for seed in range(arguments.seeds):
            train_both(folder, seed, [f"training.max_time={arguments.max_time}", *arguments.settings])


def train_both(folder: Path, seed: int, more: list[str]) -> None:
    """Side by side, so that a busy machine slows both alike."""
    running = {}
    for outputs in ("labels", "regions"):
        run = folder / f"{outputs}_{seed}"
        command = [sys.executable, "-m", "medseg", "train", str(folder / "prepared"), "-o", str(run), "--device", "cpu"]
        settings = [f"training.outputs={outputs}", f"training.seed={seed}", *more]
        flags = [flag for setting in settings for flag in ("--set", setting)]
        with (folder / f"{run.name}.log").open("w") as log:
            running[run] = subprocess.Popen([*command, *flags], stdout=log, stderr=log)
    for run, process in running.items():
        if process.wait():
            sys.exit((folder / f"{run.name}.log").read_text())
        summary = json.loads((run / "validation" / "metrics.json").read_text())["summary"]
        steps = (run / "log.csv").read_text().splitlines()[-1].split(",")[1]
        rows = {name: label["metrics"] for name, label in summary["labels"].items()} | {"mean": summary["over_labels"]}
        for name, row in rows.items():
            measured = " | ".join(f"{row[metric]['mean']:.4f}" for metric in ("dice", "hd95_mm", "surface_dice"))
            print(f"| {run.name.split('_')[0]} | {seed} | {steps} | {name} | {measured} |", flush=True)


if __name__ == "__main__":
    main()
