"""A model that nnU-Net trained, as the beginning of a training on few cases with another label, against none.

    python benchmarks/fine_tuning.py HIPPOCAMPUS --trained FOLDER --split splits_final.json --cases 10 --epochs 4

HIPPOCAMPUS is MSD Task04; FOLDER a trained folder of nnU-Net (``benchmarks/imported.py --keep`` leaves one), and the
split that of its fold 0. Of the cases that it has not seen the first ones are trained on, and the others predicted.
Their two labels are one here, the hippocampus, which the model does not know by that name: its last layer begins anew.
Both trainings have the model's network and patches, batches of two, and as many epochs of 50 steps. Prints a Markdown
table.
"""

import argparse
import csv
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from environment import describe

import medseg
from medseg.config import load
from medseg.inferers.model_record import read_model_record

LABEL = "hippocampus"


class Row(NamedTuple):
    name: str
    steps: int
    first: float  # loss of the first epoch
    mean: float  # Dice
    least: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--only", choices=("init", "scratch"), action="append")
    arguments = parser.parse_args()
    unseen = json.loads(arguments.split.read_text())[0]["val"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        trained_on, predicted = unseen[: arguments.cases], unseen[arguments.cases :]
        write_cases(arguments.source, folder / "few", trained_on)
        write_cases(arguments.source, folder / "others", predicted)
        medseg.preprocess(folder / "few", folder / "prepared")
        medseg.import_model(arguments.trained, folder / "model")
        rows = [run(name, arguments, folder) for name in arguments.only or ("init", "scratch")]
    print(f"{describe()}; {len(trained_on)} cases, {len(predicted)} predicted, {50 * arguments.epochs} steps each\n")
    print("| begins with | steps | loss of the first epoch | mean Dice | lowest |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row.name} | {row.steps} | {row.first:.3f} | {row.mean:.4f} | {row.least:.3f} |")


def write_cases(source: Path, folder: Path, cases: list[str]) -> None:
    """Writes a dataset as nnU-Net lays them out, with one label."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case in cases:
        shutil.copy(source / "imagesTr" / f"{case}.nii.gz", folder / "imagesTr" / f"{case}_0000.nii.gz")
        label_map = nibabel.load(source / "labelsTr" / f"{case}.nii.gz")
        merged = (np.asarray(label_map.dataobj) > 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(merged, label_map.affine), folder / "labelsTr" / f"{case}.nii.gz")
    record = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, LABEL: 1}, "numTraining": len(cases)}
    (folder / "dataset.json").write_text(json.dumps(record | {"file_ending": ".nii.gz"}))


def run(name: str, arguments: argparse.Namespace, folder: Path) -> Row:
    model, output = folder / "model", folder / f"run_{name}"
    plan = read_model_record(model).plan
    settings = [f"network.features={list(plan.architecture.features)}", f"planning.patch_size={list(plan.patch_size)}"]
    settings += [f"training.epochs={arguments.epochs}", "training.steps_per_epoch=50", "training.batch_size=2"]
    settings += [f"training.init={model}"] if name == "init" else []
    medseg.train(folder / "prepared", output, config=load(overrides=settings))
    with (output / "log.csv").open(newline="", encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    medseg.predict(output, folder / "others" / "imagesTr", folder / f"masks_{name}")
    medseg.evaluate(folder / f"masks_{name}", folder / "others" / "labelsTr", folder / f"metrics_{name}")
    cases = json.loads((folder / f"metrics_{name}" / "metrics.json").read_text())["cases"]
    dice = [case[LABEL]["dice"] for case in cases.values()]
    return Row(name, int(epochs[-1]["step"]), float(epochs[0]["train_loss"]), statistics.fmean(dice), min(dice))


if __name__ == "__main__":
    main()
