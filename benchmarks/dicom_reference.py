"""Voxels and affines of DICOM files against the NIfTI files that dcm2niix makes of them, on its own test data.

    python benchmarks/dicom_reference.py DICOM_REFERENCE

DICOM_REFERENCE holds transfer_syntaxes/ (dcm_qa_ts) and ge_siemens_4d/ (dcm_qa_nih), each with In/ and Ref/. Prints a
Markdown table with a row a file or series: voxels that differ, and how far the corners of the grids lie apart; the
order in which voxels are stored (flips) doesn't count.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from environment import describe

from medseg.io.dicom.series import find_series, read_dicom
from medseg.io.source import ImageSource
from medseg.volume import Geometry, Volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    print(describe("pydicom", "python-gdcm"), end="\n\n")
    print("| DICOM | volumes | reference | grid | voxels that differ | corners apart (mm) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, sources, reference in pairs(parser.parse_args().source):
        compared = [compare(read_dicom(source), reference, i) for i, source in enumerate(sources)]
        grid = "×".join(str(n) for n in nibabel.load(reference).shape)
        n_different, apart = sum(n for n, _ in compared), max(mm for _, mm in compared)
        print(f"| {name} | {len(sources)} | {reference.name} | {grid} | {n_different} | {apart:.1e} |")


def pairs(folder: Path) -> Iterator[tuple[str, list[ImageSource], Path]]:
    """Name, volumes in order, and reference: one file a transfer syntax, one 4D file a series."""
    syntaxes = folder / "transfer_syntaxes"
    found = find_series(syntaxes / "In").sources
    for path in sorted((syntaxes / "In").glob("*.dcm")):
        sources = [source for source in found if path in source.files]
        yield path.name, sources, syntaxes / "Ref" / f"{path.stem}.nii"
    for series in sorted((folder / "ge_siemens_4d" / "In").glob("*/mr_*")):
        number = int(series.name.removeprefix("mr_"))
        manufacturer = series.parent.name.removeprefix("20180918")
        pattern = f"DCM2NIIX_*_{number}.nii" if manufacturer == "GE" else f"EPI_*_{number}.nii"
        (reference,) = (folder / "ge_siemens_4d" / "Ref").glob(pattern)
        yield f"{manufacturer} {series.name}", list(find_series(series).sources), reference


def compare(volume: Volume, reference: Path, i: int) -> tuple[int, float]:
    """Voxels that differ from volume ``i`` of the reference, and the distance of the corners in mm."""
    image = nibabel.load(reference)
    expected = np.asarray(image.dataobj).reshape(*image.shape[:3], -1)[..., i]
    grid = Geometry(expected.shape, image.affine)
    oriented = volume.oriented_as(grid.orientation)
    corners = np.stack(np.meshgrid(*([0, n - 1] for n in grid.shape), indexing="ij"), axis=-1)
    apart = np.linalg.norm(oriented.geometry.world(corners) - grid.world(corners), axis=-1).max()
    return int((oriented.array[0] != expected).sum()), float(apart)


if __name__ == "__main__":
    main()
