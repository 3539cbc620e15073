"""Time to convert a DICOM study to NIfTI against dcm2niix, and to read a 500-slice CT against SimpleITK.

    python benchmarks/dicom_reading.py HIPPOCAMPUS_STUDY

HIPPOCAMPUS_STUDY is a folder of DICOM series. dcm2niix comes from PyPI (pip install dcm2niix). The CT is made: 500
slices of 512×512. Each pair runs in turn; the medians and the median of the paired ratios are printed as
Markdown. Imports count in neither: both sides are functions or programs that do nothing else.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from environment import describe

from medseg.io.dicom.series import find_series, read_dicom
from medseg.io.nifti.writer import write_nifti
from medseg.phantom.dicom_study import SeriesIdentity, write_dicom_series
from medseg.volume import Geometry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(describe("pydicom", "SimpleITK", "dcm2niix"), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        fresh = (output / str(i) for i in count())  # replacing files is slower than making them, by the file system
        table(
            "Study to NIfTI",
            arguments.runs,
            ("medseg", lambda: convert(arguments.study, next(fresh))),
            ("dcm2niix -z n", lambda: dcm2niix(arguments.study, next(fresh))),
        )
        made_ct(output / "ct")
        table(
            "500-slice CT",
            arguments.runs,
            ("medseg", lambda: [read_dicom(source) for source in find_series(output / "ct").sources]),
            ("SimpleITK ImageSeriesReader", lambda: simpleitk(output / "ct")),
        )


def table(
    title: str, runs: int, ours: tuple[str, Callable[[], object]], peer: tuple[str, Callable[[], object]]
) -> None:
    times = [(timed(ours[1]), timed(peer[1])) for _ in range(runs)]
    print(f"| {title} | median of {runs} (s) | all (s) |\n| --- | --- | --- |")
    for (name, _), own in zip((ours, peer), zip(*times, strict=True), strict=True):
        print(f"| {name} | {statistics.median(own):.2f} | {', '.join(f'{t:.2f}' for t in own)} |")
    print(f"\nMedian of the paired ratios: {statistics.median(a / b for a, b in times):.2f}\n")


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def convert(study: Path, output: Path) -> None:
    output.mkdir()
    for i, source in enumerate(find_series(study).sources):
        volume = read_dicom(source)
        write_nifti(output / f"{i}.nii", volume.array[0], volume.geometry)


def dcm2niix(study: Path, output: Path) -> None:
    output.mkdir()
    program = Path(sys.executable).with_name("dcm2niix")
    subprocess.run([program, "-z", "n", "-w", "1", "-o", output, study], check=True, capture_output=True)


def simpleitk(folder: Path) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    sitk.GetArrayFromImage(reader.Execute())


def made_ct(folder: Path) -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (512, 512, 500)).astype(np.float32)
    geometry = Geometry((512, 512, 500), np.diag([-0.7, -0.7, 1.0, 1.0]))
    write_dicom_series(folder, hu, geometry, SeriesIdentity("P", "1.2.3", "1.2.4", "CT"))


if __name__ == "__main__":
    main()
