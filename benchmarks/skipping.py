"""What skipping air, and a first look, change and save: label maps with and without, on labelled CT cases.

    python benchmarks/skipping.py RUN DATASET
    python benchmarks/skipping.py RUN DATASET --around 64     with air around, as scans have that were not cropped
    python benchmarks/skipping.py RUN DATASET --longer 4      with a leg below, as in a longer scan

Counts also the voxels of the references that lie outside of the body mask. Times are of whole cases, one after the
other, each once; imports and loading the model don't count. Prints Markdown tables.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from environment import describe

import medseg
from medseg.config import InferenceConfig
from medseg.dataset.cases import Case
from medseg.dataset.layouts import find_cases
from medseg.dataset.reading import read_images, read_label_map
from medseg.device import choose_device
from medseg.inferers.body import body_mask
from medseg.inferers.model import Model, load_model
from medseg.metrics.overlap import count_overlaps
from medseg.transforms.prepared import prepare
from medseg.volume import Array, Geometry, Volume

SETTINGS = {
    "neither": {"skip_air": False, "first_look": False},
    "skip air": {"skip_air": True, "first_look": False},
    "skip air, first look": {"skip_air": True, "first_look": True},
}


@dataclass(frozen=True)
class Read:
    """A case as it was read: the reference in network labels."""

    case_id: str
    image: Volume
    reference: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cases", nargs="+", help="only these")
    parser.add_argument("--around", type=int, default=0, help="pixels of the scan's own air to add at each side")
    parser.add_argument("--longer", type=int, default=1, help="times the length of each scan")
    parser.add_argument("--overlap", type=float, default=InferenceConfig().overlap)
    arguments = parser.parse_args()
    model = load_model(arguments.run, choose_device("cpu"))
    found = [
        case for case in find_cases(arguments.dataset).cases if case.case_id in (arguments.cases or [case.case_id])
    ]
    cases = [extended(read(model, case), arguments.around, arguments.longer) for case in found]
    print(describe(), f"; {torch.get_num_threads()} thread(s)", sep="")
    outside = sum(voxels_outside(model, case) for case in cases)
    print(
        f"\n{sum(int((case.reference > 0).sum()) for case in cases)} voxels have a label; outside the body: {outside}"
    )
    names = " | ".join(model.record.labels.names)
    print(f"\n| case | | windows | skipped | seconds | voxels that differ | Dice {names} |")
    print("| --- " * (6 + len(model.record.labels.names)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            path = Path(folder) / "image.nii.gz"
            nibabel.save(nibabel.Nifti1Image(case.image.array[0], case.image.geometry.affine), path)
            compare(model, case, path, arguments)


def read(model: Model, case: Case) -> Read:
    image = read_images(case, 0.05)
    label_map = read_label_map(case, image.geometry, 0.05).array
    return Read(case.case_id, image, model.record.labels.encode(label_map))


def extended(case: Read, around: int, longer: int) -> Read:
    """With voxels drawn from the air of the scan at the sides, and a leg below: the lowest slice again and again, with
    noise, and without what has a label."""
    random, affine = np.random.default_rng(0), case.image.geometry.affine.copy()
    values = case.image.array[0].astype(np.float32)
    widths = [(around, around), (around, around), (0, 0)]
    whole = np.pad(values, widths, constant_values=np.nan)
    if around:
        missing = np.isnan(whole)
        whole[missing] = random.choice(values[values < -900], int(missing.sum()))
    added = (longer - 1) * values.shape[2]
    reference = np.pad(case.reference, widths)
    end, labelled = whole[..., :1], reference[..., :1] > 0
    tissue = np.median(end[~labelled & (end > -300)])
    leg = np.where(labelled, tissue, end) + random.normal(0, 15, (*whole.shape[:2], added))
    whole = np.concatenate([leg, whole], axis=2).astype(np.float32)
    affine[:3, 3] -= affine[:3, :3] @ [around, around, added]
    whole_reference = np.pad(reference, [(0, 0), (0, 0), (added, 0)])
    return Read(case.case_id, Volume(whole[None], Geometry(whole.shape, affine)), whole_reference)


def voxels_outside(model: Model, case: Read) -> int:
    """Of the reference on the model grid, outside the body mask."""
    grid = model.record.plan.grid
    prepared = prepare(case.image, case.reference, grid)
    mask = body_mask(prepared.image, grid)
    if mask is None or prepared.label_map is None:
        return 0
    body = np.kron(mask.blocks, np.ones(mask.step, bool))[tuple(slice(n) for n in prepared.label_map.shape)]
    return int(((prepared.label_map.numpy() > 0) & ~body).sum())


def compare(model: Model, case: Read, image: Path, arguments: argparse.Namespace) -> None:
    """Prints a row for each of the settings."""
    n_labels, first = len(model.record.labels.names), None
    for name, settings in SETTINGS.items():
        # One back end: 'auto' takes the faster one, which can be another one each time.
        (prediction,) = medseg.predict(
            arguments.run, image, device="cpu", backend="torch", overlap=arguments.overlap, **settings
        )
        label_map = model.record.labels.encode(prediction.label_map.label_map)
        first = label_map if first is None else first
        dice = [overlap.dice for overlap in count_overlaps(label_map, case.reference, n_labels)]
        cells = [case.case_id, name, prediction.windows, prediction.skipped_windows, f"{prediction.seconds:.1f}"]
        cells += [int((label_map != first).sum()), *("–" if each is None else f"{each:.3f}" for each in dice)]
        print("|", " | ".join(map(str, cells)), "|", *prediction.warnings[:1], flush=True)


if __name__ == "__main__":
    main()
