"""How often images unlike those of training are told, and how often ordinary ones are, on real data.

    python benchmarks/intensities.py HIPPOCAMPUS SARCOMA

HIPPOCAMPUS is MSD Task04, SARCOMA a folder of patients with CT_image, MR_T1_image and PET_image as NIfTI. Each dataset
in turn is what a model was trained on, normalized as ``preprocess`` does by itself. Ordinary images are those of a
fifth that is left out, ten times over; the others are all images of the other datasets, and its own ones, altered.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medseg.io.discover import source_of
from medseg.io.read import read_volume
from medseg.plan import Normalization
from medseg.planning.derive import usual_kind
from medseg.transforms.intensities import profile, quantiles, unlike, usual_values

Floats = np.ndarray

CHANGES: dict[str, Callable[[Floats], Floats]] = {
    "+1024": lambda values: values + 1024,
    "to 0–1": lambda values: (values - values.min()) / np.ptp(values),
    "to 8 bit": lambda values: np.round((values - values.min()) / np.ptp(values) * 255),
    "window -160…240 to 8 bit": lambda values: np.clip((values + 160) / 400, 0, 1) * 255,
    "constant": lambda values: np.full_like(values, values[0]),
    "inverted": lambda values: -values[::-1],
    "only the body (> -200)": lambda values: values[values > -200],
}
REPEATS = 10


def read(paths: list[Path]) -> list[Floats]:
    return [quantiles(read_volume(source_of(path)).array[0]) for path in paths]


def found(images: list[Floats], trained: list[Floats], rule: Normalization) -> int:
    usual = usual_values([profile(image, rule) for image in trained], rule)
    return sum(np.ptp(image) == 0 or unlike(profile(image, rule), usual) is not None for image in images)


def left_out(images: list[Floats], rule: Normalization) -> tuple[int, int]:
    """Of images that were left out of training, how many are told, and how many there are."""
    told = n = 0
    for repeat in range(REPEATS):
        order = np.random.default_rng(repeat).permutation(len(images))
        held, trained = np.split(order, [max(1, len(images) // 5)])
        told += found([images[i] for i in held], [images[i] for i in trained], rule)
        n += len(held)
    return told, n


def rows(name: str, datasets: dict[str, list[Floats]]) -> dict[str, str]:
    """For a model that was trained on the dataset of this name: how many of which images are told."""
    images, rule = datasets[name], rule_of(name)
    told, n = left_out(images, rule)
    result = {"ordinary, left out": f"{told} of {n}"}
    for other, theirs in datasets.items():
        result[other] = "" if other == name else f"{found(theirs, images, rule)} of {len(theirs)}"
    for what, change in CHANGES.items():
        for_ct = "-" in what
        told = found([change(image) for image in images], images, rule) if rule.kind == "ct" or not for_ct else None
        result[what] = "" if told is None else f"{told} of {len(images)}"
    return result


def rule_of(name: str) -> Normalization:
    return Normalization(kind=usual_kind(name.split()[-1]))


def main(hippocampus: Path, sarcoma: Path) -> None:
    datasets = {"hippocampus MR": read(sorted(hippocampus.glob("imagesTr/hippocampus_*.nii.gz")))}
    for name in ("CT", "MR_T1", "PET"):
        datasets[f"sarcoma {name}"] = read(sorted(sarcoma.glob(f"*/{name}_image.nii.gz")))
    columns = {name: rows(name, datasets) for name in datasets}
    titles = [f"{name}, {rule_of(name).kind} ({len(images)})" for name, images in datasets.items()]
    print(f"| trained on | {' | '.join(titles)} |")
    print("| --- " * (len(titles) + 1) + "|")
    for what in columns["sarcoma CT"]:
        print(f"| {what} | {' | '.join(column[what] for column in columns.values())} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
