"""The U-Net of 2015 on the task of its paper: cells and membranes of electron microscopy (ISBI 2012).

    python benchmarks/membrane.py MEMBRANE --max-time 8m --picture docs/images/membrane.png

Trains with valid convolutions and the overlap-tile strategy, and prints foreground-restricted Rand and information
scores and the pixel error of the held-back images of fold 0. The paper's are those of the challenge's own test images
at the best threshold, and of seven rotated copies averaged: not the same measurement.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean

import numpy as np
from environment import describe
from matplotlib.figure import Figure

import medseg
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.volume import Array

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "membrane.yaml"
# Five stages as in the paper: 284×284 pixels in, 100×100 out, which a processor learns from in minutes.
PAPER = ("planning.patch_size=[96, 96]", "training.batch_size=4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--network", default="unet-2015")
    parser.add_argument("--max-time", default="8m")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--picture", type=Path, help="PNG of one held-back image")
    parser.add_argument("--keep", type=Path, help="folder to keep the prepared dataset and the run in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        prepared, run = folder / "prepared", folder / "run"
        if not prepared.is_dir():
            medseg.preprocess(arguments.source, prepared)
        overrides = [*PAPER, f"network.name={arguments.network}", f"training.max_time={arguments.max_time}"]
        result = medseg.train(prepared, run, dims=2, config=load([CONFIG], [*overrides, *arguments.settings]))
        validation = run / "validation"
        dataset = PreparedDataset(prepared)
        found = medseg.evaluate(validation, prepared, metrics=["dice", "rand"], cases=_cases(validation))
        rows = []
        for record in found.records:
            masks = _masks(dataset, validation, record.case_id)
            rows.append((record.case_id, *record.values.values(), _pixel_error(*masks)))
        print(f"{describe()}\n\n{arguments.network}, {result.steps} steps in {result.seconds:.0f} s\n")
        names = list(found.records[0].values)
        print(f"| image | {' | '.join(names)} | pixel error |\n|{' --- |' * (len(names) + 2)}")
        for name, *values in [*rows, ("mean", *map(fmean, list(zip(*rows, strict=True))[1:]))]:
            print(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |")
        if arguments.picture:
            case_id = sorted(row[0] for row in rows)[0]
            image = medseg.read_volume(dataset.image_paths(case_id)[0]).array[0, ..., 0]
            draw(image, *_masks(dataset, validation, case_id), arguments.picture)


def _cases(validation: Path) -> list[str]:
    return sorted(path.stem for path in validation.glob("*.png"))


def _masks(dataset: PreparedDataset, validation: Path, case_id: str) -> tuple[Array, Array]:
    """Prediction and reference (x, y): whether a pixel is of a cell."""
    paths = (validation / f"{case_id}.png", dataset.label_path(case_id))
    prediction, reference = (medseg.read_volume(path).array[0, ..., 0] > 0 for path in paths)
    return prediction, reference


def _pixel_error(prediction: Array, reference: Array) -> float:
    """The part of the pixels that differ."""
    return float((prediction != reference).mean())


def draw(image: Array, prediction: Array, reference: Array, output: Path) -> None:
    """The image, the predicted cells, and where they differ from the reference: missed white, invented red."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    different = np.zeros((*prediction.shape, 3))
    different[prediction & reference] = 0.35
    different[~prediction & reference] = 1.0
    different[prediction & ~reference] = (1.0, 0.2, 0.2)
    pictures = {"image": image, "predicted cells": prediction, "missed (white) and invented (red)": different}
    for axes, (title, picture) in zip(figure.subplots(1, 3), pictures.items(), strict=True):
        axes.imshow(np.swapaxes(picture, 0, 1), cmap="gray")
        axes.set_title(title)
        axes.set_axis_off()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=90)


if __name__ == "__main__":
    main()
