"""Files and their names."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from medseg.errors import SourceError
from medseg.records import read_object

NIFTI_SUFFIXES = (".nii.gz", ".nii")
PAIR_SUFFIXES = (".hdr.gz", ".hdr")  # headers whose voxels lie beside them, in files of VOXEL_SUFFIXES
VOXEL_SUFFIXES = (".img.gz", ".img")
ITK_SUFFIXES = (".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd")
ZARR_SUFFIXES = (".ome.zarr", ".zarr")  # folders that are one file to everybody
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


# What medseg writes of its own, and an entry that tells it from a file of the same name.
ANNOTATIONS_FILE = "annotations.json"
OUTPUTS = {"predictions.json": "medseg", "run.json": "plan", "dataset.json": "medseg", ANNOTATIONS_FILE: "medseg"}


REJECTED = ".rejected"  # what the name of a mask ends with that lies wrong


class Walk(NamedTuple):
    """What lies in a folder and its subfolders.

    Attributes:
        files: All files that are not hidden, sorted.
        outputs: Folders that medseg wrote, or that were seen before; they are not walked into.
    """

    files: list[Path]
    outputs: list[Path]


def walk(folder: Path) -> Walk:
    """Lists all files in a folder and its subfolders, sorted; a Zarr store counts as a file.

    Hidden ones are skipped, links are followed once. Masks, runs and prepared datasets below the folder, which would be
    taken for more cases, are left out.
    """
    found: list[Path] = []
    outputs: list[Path] = []
    seen = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or (Path(place) != folder and _is_output(Path(place), names)):
            outputs += [] if real in seen else [Path(place)]
            subfolders.clear()
            continue
        seen.add(real)
        stores = [name for name in subfolders if is_zarr(Path(name))]
        subfolders[:] = [name for name in subfolders if not is_hidden(name) and name not in stores]
        found += [Path(place, name) for name in (*names, *stores) if not is_hidden(name)]
    return Walk(sorted(found), sorted(outputs))


def subfolders(folder: Path) -> list[Path]:
    """Lists the folders in a folder, sorted, without what ``walk`` does not walk into."""
    with os.scandir(folder) as entries:  # which knows folders without asking of each of many files
        folders = [Path(entry.path) for entry in entries if entry.is_dir() and not is_hidden(entry.name)]
        below = sorted(path for path in folders if not is_zarr(path))
    return [path for path in below if not _is_output(path, [name for name in OUTPUTS if (path / name).is_file()])]


def files_under(folder: Path) -> list[Path]:
    """Lists the files that ``walk`` finds."""
    return walk(folder).files


def is_nifti(path: Path) -> bool:
    """Says whether a name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def is_pair(path: Path) -> bool:
    """Says whether a name is that of the header of Analyze or NIfTI in two files."""
    return path.name.lower().endswith(PAIR_SUFFIXES)


def is_gzipped(path: Path) -> bool:
    """Says whether a file is compressed by gzip, by name."""
    return path.suffix.lower() == ".gz"


def is_itk(path: Path) -> bool:
    """Says whether a name is that of NRRD or MetaImage: an image, or a segmentation of 3D Slicer."""
    return path.name.lower().endswith(ITK_SUFFIXES)


def is_zarr(path: Path) -> bool:
    """Says whether a name is that of a Zarr store, a folder of arrays in chunks."""
    return path.name.lower().endswith(ZARR_SUFFIXES)


def stored_bytes(path: Path) -> int:
    """Returns the size of a file, or of all files of a Zarr store."""
    if not path.is_dir():
        return path.stat().st_size if path.is_file() else 0
    with os.scandir(path) as entries:
        return sum(stored_bytes(Path(e.path)) if e.is_dir() else e.stat().st_size for e in entries)


def is_picture(path: Path) -> bool:
    """Says whether a name is that of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def stem(path: Path) -> str:
    """Returns the name without the suffixes of image files: ``"scan_1.5mm"`` for ``scan_1.5mm.nii.gz``."""
    for suffix in (
        *NIFTI_SUFFIXES,
        *PAIR_SUFFIXES,
        *VOXEL_SUFFIXES,
        *ITK_SUFFIXES,
        *PICTURE_SUFFIXES,
        *ZARR_SUFFIXES,
        ".dcm",
    ):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def is_hidden(name: str) -> bool:
    """Says whether a file is hidden by its name."""
    return name.startswith(".") or name == "__MACOSX" or name.endswith(REJECTED)


def _is_output(folder: Path, names: list[str]) -> bool:
    for name in OUTPUTS.keys() & set(names):
        with suppress(SourceError):  # somebody else's, then
            if OUTPUTS[name] in read_object(folder / name):
                return True
    return False
