"""Prediction from NIfTI to NIfTI: medseg, MONAI's inferer and nnU-Net's predictor, with the same random weights.

    python benchmarks/inference.py --peer PEER/bin/python                         a CT of 512×512×300, 3 and 60 labels
    python benchmarks/inference.py --peer PEER/bin/python --images HIPPOCAMPUS/imagesTr --spacing 1 --patch 40 56 40

``--peer`` is the Python of an environment of its own with nnunetv2 2.8.1. MONAI runs the bundle that 'medseg package'
makes (it needs fire and pytorch-ignite). Each is a whole command, in turn; memory is the most that its
processes held together (proportional set size, sampled). Prints a Markdown table. Random weights are near ties
everywhere, so that small differences, as of resampling or rounding, show in the labels as they don't with trained ones.
nnU-Net's model is what 'medseg package' makes; "imported" is that one as 'medseg import' takes it, by nnU-Net's rules.
"""

import argparse
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import psutil
import torch
from environment import describe
from scipy.ndimage import zoom

import medseg
from medseg.architecture import Architecture
from medseg.config import InferenceConfig
from medseg.device import choose_device
from medseg.inferers.model import load_model, save_model, weights_fingerprint
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.quantised import QuantisedRecord, quantised, save_quantised
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Grid, Normalization, Plan

SECONDS_BETWEEN_SAMPLES = 0.5
LEAST_FREE = 2**30  # bytes
CALIBRATION = 4  # windows
RULE = Normalization(kind="ct", lower=-160, upper=240, mean=40, std=80)


class Cost(NamedTuple):
    seconds: float
    processor_seconds: float  # of all its processes: hardly more where others are at work too
    peak_mb: float
    failure: str | None  # why it made no masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="python of an environment with nnunetv2; without, it is left out")
    parser.add_argument("--images", type=Path, help="a folder of .nii.gz to predict, in place of a made CT")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300), help="of the made CT")
    parser.add_argument("--labels", type=int, nargs="+", default=(3, 60))
    parser.add_argument("--spacing", type=float, default=1.5, help="of the model's grid, mm")
    parser.add_argument("--patch", type=int, nargs=3, default=(96, 96, 96))
    parser.add_argument("--features", type=int, nargs="+", default=(32, 64, 128, 256, 320))
    parser.add_argument("--int8", action="store_true", help="medseg with its network in int8 too (medseg[int8])")
    parser.add_argument("--overlap", type=float, help="medseg also with windows that overlap so")
    parser.add_argument(
        "--without", nargs="+", default=(), choices=("medseg", "MONAI", "nnU-Net", "medseg, imported"),
        help="programs to leave out",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=1, help="of each program, in turn; the table has the medians")
    arguments = parser.parse_args()
    print(describe("nibabel"))
    print("\n| labels | program | time (s) | processor (s) | peak memory (MB) | voxels with the first one's label |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in arguments.labels:
        with tempfile.TemporaryDirectory() as temporary:
            compare(n, arguments, Path(temporary))


def compare(n_labels: int, arguments: argparse.Namespace, folder: Path) -> None:
    images = arguments.images or folder / "images"
    if arguments.images is None:
        make_ct(images / "ct.nii.gz", tuple(arguments.shape))
    plan = plan_of(arguments)
    write_model(folder / "model", plan, n_labels)
    medseg.package(folder / "model", folder / "bundle", format="monai-bundle")
    bundle, masks = folder / "bundle", folder / "MONAI"
    of_bundle = ["--config_file", bundle / "configs/inference.json", "--bundle_root", bundle]
    python = [sys.executable, "-m"]

    def own(model: Path, output: Path) -> list[Any]:
        return [*python, "medseg", "predict", model, images, "-o", output, "--overwrite"]

    def less(model: Path, output: Path) -> list[Any]:
        return [*own(model, output), "--overlap", arguments.overlap]

    runs: dict[str, list[Any]] = {
        "medseg": own(folder / "model", folder / "medseg"),
        "MONAI": [*python, "monai.bundle", "run", *of_bundle, "--input_dir", images, "--output_dir", masks],
    }
    if arguments.int8:
        quantise(shutil.copytree(folder / "model", folder / "quantised"))
        runs["medseg, int8"] = own(folder / "quantised", folder / "medseg, int8")
    if arguments.overlap is not None:
        for name, model in (("medseg", "model"), ("medseg, int8", "quantised")):
            if name in runs:
                other = f"{name}, overlap {arguments.overlap:g}"
                runs[other] = less(folder / model, folder / other)
    if arguments.peer:
        trained, imported = write_peer(folder, images)
        runs["nnU-Net"] = [arguments.peer, "-c", PREDICT, folder / "peer_images", folder / "nnU-Net", trained]
        runs["medseg, imported"] = own(imported, folder / "medseg, imported")
    runs = {name: command for name, command in runs.items() if name not in arguments.without}
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for _ in range(arguments.runs):
        for name, command in runs.items():
            (folder / name).mkdir(exist_ok=True)
            costs[name].append(measured([str(part) for part in command]))
    first = next(iter(costs))
    for name, each in costs.items():
        failure = next((cost.failure for cost in each if cost.failure), None)
        same = failure or f"{agreement(folder / first, folder / name):.4f}"
        numbers = [statistics.median(values) for values in list(zip(*each, strict=True))[:3]]
        told = " | ".join(f"{number:.{digits}f}" for number, digits in zip(numbers, (1, 1, 0), strict=True))
        print(f"| {n_labels} | {name} | {told} | {same} |", flush=True)


def make_ct(path: Path, shape: tuple[int, int, int]) -> None:
    """Smooth tissue and noise in a body of an ellipse, air around it; .8×.8×1.5 mm, axes RAS."""
    random = np.random.default_rng(0)
    coarse = random.normal(40, 60, [-(-n // 16) + 1 for n in shape]).astype(np.float32)
    values = zoom(coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=1)
    values += random.normal(0, 10, shape).astype(np.float32)
    x, y = (np.linspace(-1, 1, n) for n in shape[:2])
    values[(x[:, None] / 0.85) ** 2 + (y[None] / 0.65) ** 2 > 1] = -1000
    path.parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.rint(values).astype(np.int16), np.diag([0.8, 0.8, 1.5, 1])), path)


def plan_of(arguments: argparse.Namespace) -> Plan:
    n = len(arguments.features)
    architecture = Architecture(
        features=tuple(arguments.features),
        strides=((1, 1, 1), *[(2, 2, 2)] * (n - 1)),
        kernel_sizes=((3, 3, 3),) * n,
        deep_supervision=False,
    )
    grid = Grid(orientation="RAS", spacing=(arguments.spacing,) * 3, crop_to_nonzero=False, normalization=(RULE,))
    patch = tuple(arguments.patch)
    return Plan(dims=3, grid=grid, patch_size=patch, batch_size=2, slice_axis=None, architecture=architecture)


def write_model(folder: Path, plan: Plan, n_labels: int) -> None:
    torch.manual_seed(0)
    network = build_network(1, n_labels + 1, plan.architecture)
    record = ModelRecord(
        medseg=medseg.__version__,
        plan=plan,
        labels=Labels.from_names({f"label_{i}": i for i in range(1, n_labels + 1)}),
        channels=("CT",),
        inference=InferenceConfig(),
        provenance={},
        metrics={},
    )
    save_model(folder, record, network.state_dict())


def quantise(model: Path) -> None:
    """With noise, as 'medseg quantise' does with patches that a network was trained on."""
    loaded = load_model(model, choose_device("cpu"))
    noise = torch.randn(CALIBRATION, 1, *loaded.record.plan.patch_size)
    graph = quantised(loaded.network, noise)
    record = QuantisedRecord(fingerprint=weights_fingerprint(model), dice=0.0, dice_before=0.0, cases=0)
    save_quantised(graph, record, model)


def write_peer(folder: Path, images: Path) -> tuple[Path, Path]:
    """The model as nnU-Net's, the same as a model that was imported from there, and images with nnU-Net's names."""
    results = medseg.package(folder / "model", folder / "results", format="nnunet")
    (trained,) = results.glob("*/*")
    medseg.import_model(trained, folder / "imported")
    (folder / "peer_images").mkdir()
    for path in images.glob("*.nii.gz"):
        (folder / "peer_images" / path.name.replace(".nii.gz", "_0000.nii.gz")).symlink_to(path.resolve())
    return trained, folder / "imported"


PREDICT = """
import sys
from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
if __name__ == "__main__":
    images, output, model = sys.argv[1:]
    sys.argv = ["nnUNetv2_predict_from_modelfolder", "-i", images, "-o", output, "-m", model, "-f", "0",
        "-device", "cpu", "--disable_tta", "--disable_progress_bar"]
    predict_entry_point_modelfolder()
"""


def measured(command: list[str]) -> Cost:
    """Of a whole command with all its processes; one that takes nearly all of the machine's memory is ended."""
    start, before, peak, failure = time.perf_counter(), processor_seconds(), 0.0, None
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        while process.poll() is None:
            peak = max(peak, memory_mb(process.pid))
            if psutil.virtual_memory().available < LEAST_FREE:
                failure = "ended: no memory left"
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(SECONDS_BETWEEN_SAMPLES)
        seconds = time.perf_counter() - start
        if process.returncode and failure is None:
            log.seek(0)
            print(log.read().decode()[-2000:], file=sys.stderr)
            failure = f"failed with status {process.returncode}"
    return Cost(seconds, processor_seconds() - before, peak, failure)


def processor_seconds() -> float:
    """Of all commands that ended, and their processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_mb(pid: int) -> float:
    """Of a process and those that it started."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total / 2**20


def agreement(ours: Path, theirs: Path) -> float:
    """Part of all voxels with the same label; no number where there are no masks to compare with."""
    same = count = 0
    for path in sorted(ours.glob("*.nii.gz")):
        pair = [np.asarray(nibabel.load(folder / path.name).dataobj) for folder in (ours, theirs)]
        same += int((pair[0] == pair[1]).sum())
        count += pair[0].size
    return same / count if count else float("nan")


if __name__ == "__main__":
    main()
