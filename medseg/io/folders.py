"""Files and their names."""

import os
from pathlib import Path

NIFTI_SUFFIXES = (".nii.gz", ".nii")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def files_under(folder: Path) -> list[Path]:
    """All files in a folder and its subfolders, sorted; hidden ones are skipped, links are followed once."""
    found = []
    seen = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
        found += [Path(place, name) for name in names if not _is_hidden(name)]
    return sorted(found)


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES


def stem(path: Path) -> str:
    """The name without the suffixes of image files: ``"scan_1.5mm"`` for ``scan_1.5mm.nii.gz``."""
    for suffix in (*NIFTI_SUFFIXES, *PICTURE_SUFFIXES, ".dcm"):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
