"""Models that nnU-Net trained itself, imported into medseg: label maps, Dice, seconds and memory, side by side.

    python benchmarks/imported.py HIPPOCAMPUS --peer PEER/bin
    python benchmarks/imported.py HIPPOCAMPUS --peer PEER/bin --max-time 10m --kind 2d --keep FOLDER

HIPPOCAMPUS is MSD Task04; ``--peer`` the bin folder of an environment of its own with nnunetv2 2.8.1. nnU-Net plans,
trains on fold 0 of its own split until the time is up, and predicts the cases that were held back by
``nnUNetv2_predict_from_modelfolder``, mirroring included. medseg imports the folder as it is, and predicts them too.
In so few minutes of a processor, nnU-Net's plan and trainer would stay at the background: the plan has fewer features
and smaller patches and batches here, and the trainer is nnU-Net's own with Adam. All else is as it is by default.
Prints a Markdown table; the Dice between both label maps is that of all foreground voxels of all cases. What is in
``--keep`` already is not trained again.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from environment import describe
from inference import Cost, measured
from preprocessing import Peer

import medseg
from medseg.setting_types import seconds

FEATURES = [8, 16, 32, 64]
PATCH = {"3d_fullres": [32, 40, 32], "2d": [48, 40]}  # most cases are larger: they take several windows
BATCH = {"3d_fullres": 2, "2d": 16}
TRAINER = "nnUNetTrainerAdam1en3"
SCRIPT = Path(__file__).with_name("nnunet_training.py")
DATASET = "Dataset004_Hippocampus"
KINDS = {"3d": ("3d_fullres", False), "residual": ("3d_fullres", True), "2d": ("2d", False)}


class Row(NamedTuple):
    kind: str
    between: float  # Dice of both label maps
    different: int  # voxels
    theirs: float  # mean Dice against the references
    ours: float
    their_cost: Cost
    our_cost: Cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="bin folder with nnunetv2")
    parser.add_argument("--max-time", default="4m", help="of each training")
    parser.add_argument("--cases", type=int, default=20, help="how many of those held back are predicted")
    parser.add_argument("--kind", choices=KINDS, action="append", help="of network; all by default")
    parser.add_argument("--keep", type=Path, help="folder to keep models and predictions in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        peer = prepared(arguments, folder)
        rows = [compared(peer, kind, arguments, folder) for kind in arguments.kind or KINDS]
    print(describe())
    print(f"nnunetv2 {peer.version()}, {TRAINER}, {arguments.max_time} of training each\n")
    costs = "nnU-Net (s) | (MB) | medseg (s) | (MB)"
    print(f"| | Dice between both | voxels that differ | mean Dice, nnU-Net | medseg | {costs} |")
    print("| --- " * 9 + "|")
    for row in rows:
        numbers = f"{row.between:.5f} | {row.different} | {row.theirs:.4f} | {row.ours:.4f}"
        costs = [f"{cost.seconds:.0f} | {cost.peak_mb:.0f}" for cost in (row.their_cost, row.our_cost)]
        print(f"| {row.kind} | {numbers} | {' | '.join(costs)} |")


def prepared(arguments: argparse.Namespace, folder: Path) -> Peer:
    """nnU-Net with its planned and preprocessed dataset, and a plan of fewer features for each kind."""
    peer = Peer(arguments.peer, arguments.source, folder)
    os.environ.update(peer.folders, nnUNet_n_proc_DA="2")
    place = Path(peer.folders["nnUNet_preprocessed"]) / DATASET
    if (place / "small_2d.json").is_file():
        return peer
    run(peer.bin / "nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "2d")
    plans = json.loads((place / "nnUNetPlans.json").read_text())
    for kind, (configuration, residual) in KINDS.items():
        smaller = json.loads(json.dumps(plans)) | {"plans_name": f"small_{kind}"}
        chosen = smaller["configurations"][configuration]
        chosen |= {"batch_size": BATCH[configuration], "patch_size": PATCH[configuration]}
        network, stages = chosen["architecture"], len(chosen["architecture"]["arch_kwargs"]["strides"])
        given = network["arch_kwargs"]
        given |= {"n_stages": stages, "features_per_stage": [*FEATURES, *[FEATURES[-1]] * stages][:stages]}
        if residual:
            network["network_class_name"] = network["network_class_name"].replace(
                "PlainConvUNet", "ResidualEncoderUNet"
            )
            given |= {"n_blocks_per_stage": [1, 2, 2, 2][:stages], "n_conv_per_stage_decoder": [1] * (stages - 1)}
            del given["n_conv_per_stage"]
        smaller["configurations"] = {configuration: chosen}
        (place / f"small_{kind}.json").write_text(json.dumps(smaller))
    return peer


def compared(peer: Peer, kind: str, arguments: argparse.Namespace, folder: Path) -> Row:
    configuration = KINDS[kind][0]
    preprocessed = Path(peer.folders["nnUNet_preprocessed"]) / DATASET
    trained = Path(peer.folders["nnUNet_results"]) / DATASET / f"{TRAINER}__small_{kind}__{configuration}"
    if not (trained / "fold_0" / "checkpoint_final.pth").is_file():
        command = [peer.bin / "python", "-P", SCRIPT, preprocessed, configuration, folder / f"{kind}.json"]
        command += ["--plans", f"small_{kind}", "--trainer", TRAINER, "--seconds", seconds(arguments.max_time)]
        run(*command, "--seed", 0)
    split = json.loads((preprocessed / "splits_final.json").read_text())[0]
    images, references = folder / f"{kind}_images", folder / f"{kind}_references"
    for made in (images, references):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
    raw = Path(peer.folders["nnUNet_raw"]) / DATASET
    cases = split["val"][: arguments.cases]
    for case in cases:
        shutil.copy(raw / "imagesTr" / f"{case}_0000.nii.gz", images)
        shutil.copy(raw / "labelsTr" / f"{case}.nii.gz", references)
    theirs, model, ours = (folder / f"{kind}_{name}" for name in ("nnunet", "model", "medseg"))
    predict = peer.bin / "nnUNetv2_predict_from_modelfolder"
    their_cost = run(predict, "-i", images, "-o", theirs, "-m", trained, "-f", "0", "-device", "cpu")
    shutil.rmtree(model, ignore_errors=True)
    medseg.import_model(trained, model)
    our_cost = run(sys.executable, "-m", "medseg", "predict", model, images, "-o", ours)
    between, different = agreement(ours, theirs, cases)
    dice = [mean_dice(masks, references, folder / "metrics") for masks in (theirs, ours)]
    return Row(kind, between, different, *dice, their_cost, our_cost)


def agreement(ours: Path, theirs: Path, cases: list[str]) -> tuple[float, int]:
    """Returns Dice of the foreground labels over all cases, and how many voxels differ."""
    same = sizes = different = 0
    for case in cases:
        one, other = (np.asarray(nibabel.load(folder / f"{case}.nii.gz").dataobj) for folder in (ours, theirs))
        same += np.count_nonzero((one == other) & (one > 0))
        sizes += np.count_nonzero(one) + np.count_nonzero(other)
        different += np.count_nonzero(one != other)
    if not sizes:
        raise SystemExit("neither program found any label: nnU-Net has learnt nothing yet, give more --steps")
    return 2 * same / sizes, different


def mean_dice(masks: Path, references: Path, output: Path) -> float:
    shutil.rmtree(output, ignore_errors=True)
    medseg.evaluate(masks, references, output)
    summary = json.loads((output / "metrics.json").read_text())["summary"]
    return statistics.fmean(label["metrics"]["dice"]["mean"] for label in summary["labels"].values())


def run(*command: object) -> Cost:
    """Returns the seconds of a command, and the peak memory of it and its children together."""
    cost = measured([str(part) for part in command])
    if cost.failure:
        raise SystemExit(f"{' '.join(map(str, command[:3]))} {cost.failure}")
    return cost


if __name__ == "__main__":
    main()
