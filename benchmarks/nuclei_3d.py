"""Nuclei told apart in a 3D image: each quarter of one stack by a network that learnt from the others.

    python benchmarks/nuclei_3d.py ../shared/data/nuclei --work /tmp/nuclei-3d --max-time 3m

The stack (``img3d.tif``, an example of StarDist: 57×61×31 voxels, 51 nuclei) is cut in the middle of x and y. Objects
that a cut parts are objects of both sides. Sections are taken for twice as thick as pixels are wide, which makes the
nuclei round; the file does not say it. Of the other three quarters two are learnt from, and one is held back for the
choice of the grouping. Average precision is StarDist's, TP / (TP + FP + FN); printed are the
objects of all quarters together, and for comparison the connected components of the label map.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import cc3d
import numpy as np
import tifffile
from environment import describe

import medseg
from medseg.config import load
from medseg.io.nifti.writer import write_nifti
from medseg.io.read import read_volume
from medseg.metrics.objects import USUAL_IOUS, object_pairs
from medseg.volume import Geometry

SPACING = (1.0, 1.0, 2.0)


def cut(data: Path, work: Path) -> None:
    """Writes the quarters: ``QUARTER/train`` with the other three, ``QUARTER/test`` with itself."""
    image, objects = (tifffile.imread(data / name).transpose(2, 1, 0) for name in ("img3d.tif", "mask3d.tif"))
    halves = [(slice(0, n // 2), slice(n // 2, n)) for n in image.shape[:2]]
    quarters = {f"{i}{j}": (halves[0][i], halves[1][j]) for i, j in product((0, 1), repeat=2)}
    for tested, (name, place) in product(quarters, quarters.items()):
        folder = work / tested / ("test" if name == tested else "train")
        part = objects[place]
        grid = Geometry(part.shape, np.diag([*SPACING, 1.0]))
        write_nifti(folder / "images" / f"{name}.nii.gz", image[place].astype(np.float32), grid)
        write_nifti(folder / "labels" / f"{name}.nii.gz", part.astype(np.uint16), grid)


def precision(references: list[np.ndarray], predicted: list[np.ndarray]) -> dict[str, float]:
    """The average precision at each IoU of the objects of all quarters together, and the mean of them."""
    several = (np.concatenate([each.ravel() + (each.ravel() > 0) * i * 1000 for i, each in enumerate(arrays)])
               for arrays in (references, predicted))  # fmt: skip
    pairs = object_pairs(*several)
    return {**{f"AP@{iou}": pairs.average_precision(iou) for iou in USUAL_IOUS}, "mean AP": pairs.mean_precision()}


def main() -> None:
    """Cuts, trains four times, predicts and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with img3d.tif and mask3d.tif")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--max-time", default="3m", help="of each of the four trainings")
    parser.add_argument("--set", action="append", default=[], help="further settings, as of medseg train")
    arguments = parser.parse_args()
    work = arguments.work
    cut(arguments.data, work)
    config = load(overrides=[f"training.max_time={arguments.max_time}", "training.folds=3", *arguments.set])
    references, objects, components, steps = [], [], [], []
    for folder in sorted(work.iterdir()):
        medseg.preprocess(folder / "train", folder / "prepared", config=config, instances=["nucleus"])
        run = medseg.train(folder / "prepared", folder / "run", dims=3, config=config)
        steps.append(run.steps)
        medseg.predict(run.model, folder / "test" / "images", folder / "masks")
        (reference,) = (folder / "test" / "labels").iterdir()
        references.append(read_volume(reference).array[0].astype(int))
        objects.append(read_volume(folder / "masks" / "objects" / reference.name).array[0].astype(int))
        label_map = read_volume(folder / "masks" / reference.name).array[0]
        components.append(cc3d.connected_components(label_map > 0).astype(int))
    print(describe())
    print(json.dumps({"steps": steps, "objects": precision(references, objects),
                      "connected components": precision(references, components)}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
