"""Preprocessing time of medseg against nnU-Net on the same cases, as whole commands, in turn, in one run.

    python benchmarks/preprocessing.py HIPPOCAMPUS --peer /path/to/peer/bin

HIPPOCAMPUS is MSD Task04 (dataset.json, imagesTr/, labelsTr/). ``--peer`` is the bin folder of an environment of its
own with nnunetv2 (pip install torch==2.14.1 torchvision==0.29.1 nnunetv2). Prints a Markdown table with the
median of the runs and of the paired ratios.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import describe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(arguments.peer, arguments.source, Path(folder))
        rows = [(ours(arguments.source, Path(folder) / "ours"), peer.preprocess()) for _ in range(arguments.runs)]
        print(describe())
        print(f"nnunetv2 {peer.version()}\n")
    print("| | median (s) | all (s) |\n| --- | --- | --- |")
    for name, times in zip(
        ("medseg preprocess", "nnUNetv2_plan_and_preprocess -c 3d_fullres"), zip(*rows, strict=True), strict=True
    ):
        print(f"| {name} | {statistics.median(times):.1f} | {', '.join(f'{t:.1f}' for t in times)} |")
    print(f"\nMedian of the paired ratios: {statistics.median(a / b for a, b in rows):.2f}")


def ours(source: Path, output: Path) -> float:
    shutil.rmtree(output, ignore_errors=True)
    return timed([sys.executable, "-m", "medseg", "preprocess", source, "-o", output], dict(os.environ))


class Peer:
    """nnU-Net with its folders and a copy of the dataset in its own layout."""

    def __init__(self, bin_folder: Path, source: Path, folder: Path) -> None:
        self.bin = bin_folder
        self.folders = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        self.environment = {**os.environ, **self.folders}
        raw = Path(self.folders["nnUNet_raw"]) / "Dataset004_Hippocampus"
        if raw.is_dir():
            return
        (raw / "imagesTr").mkdir(parents=True)
        (raw / "labelsTr").mkdir()
        images = sorted((source / "imagesTr").glob("*.nii.gz"))
        for image in images:
            shutil.copy(image, raw / "imagesTr" / image.name.replace(".nii.gz", "_0000.nii.gz"))
            shutil.copy(source / "labelsTr" / image.name, raw / "labelsTr" / image.name)
        record = {
            "channel_names": {"0": "MRI"},
            "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
            "numTraining": len(images),
            "file_ending": ".nii.gz",
        }
        (raw / "dataset.json").write_text(json.dumps(record))

    def preprocess(self) -> float:
        shutil.rmtree(self.folders["nnUNet_preprocessed"], ignore_errors=True)
        return timed([self.bin / "nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres"], self.environment)

    def version(self) -> str:
        command = [self.bin / "python", "-c", "import importlib.metadata as m; print(m.version('nnunetv2'))"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def timed(command: list[object], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
