"""DICOMDIR: the table of contents of a CD (PS3.10, 8.6; PS3.3, F)."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from pydicom import config, dcmread

from medseg.errors import Problem, reading
from medseg.io.archives import FolderContents
from medseg.io.dicom.header import Header


def is_dicomdir(path: Path) -> bool:
    """Says whether a path is a file that is named DICOMDIR."""
    return path.name.upper() == "DICOMDIR" and path.is_file()


def listed_files(path: Path) -> FolderContents:
    """Returns the files that a DICOMDIR lists; what is missing of them are problems.

    Names are in capitals on a CD and often no longer so in a copy, which may also have given them a suffix.

    Raises:
        SourceError: The file is no DICOMDIR.
    """
    found = FolderContents([], [], [])
    entries = cache(_entries)  # each folder is listed once
    for name in _listed(path):
        file = _found(path.parent, name, entries)
        if file is not None:
            found.files.append(file)
        else:
            missing = path.parent.joinpath(*name)
            found.problems.append(
                Problem("", missing, f"{missing}: is listed in {path.name}, but there is no such file; copy it too")
            )
    found.files.sort()
    return found


def _listed(path: Path) -> list[tuple[str, ...]]:
    """Returns the components of each path."""
    with config.disable_value_validation(), reading(path, "a DICOMDIR", "give the folder that it lies in"):
        records = Header(path, dcmread(path)).items("DirectoryRecordSequence")
        names = [tuple(record.texts("ReferencedFileID")) for record in records]
    return [name for name in names if name]


def _found(folder: Path, name: tuple[str, ...], entries: Callable[[Path], dict[str, Path]]) -> Path | None:
    path = folder
    for part in name:
        inner = entries(path).get(part.upper())
        if inner is None:
            return None
        path = inner
    return path if path.is_file() else None


def _entries(folder: Path) -> dict[str, Path]:
    """Returns what lies in a folder, by names without case, and without .dcm."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    by_stem = {path.stem.upper(): path for path in paths if path.suffix.lower() == ".dcm"}
    return by_stem | {path.name.upper(): path for path in paths}
