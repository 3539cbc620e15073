"""Archives are unpacked into a temporary folder, which lives as long as the process, and are read from there.

Below that folder each archive has the path that it has itself, so that taking the folder's name out of a path or a
message (``errors.shown``) leaves ``…/study.zip/series1/001.dcm``.
"""

import atexit
import gzip
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from medseg.errors import TEMPORARY, UNPACKED, Problem, SourceError, reading, shown
from medseg.files import folder_written_whole
from medseg.io.folders import is_hidden, walk
from medseg.progress import say

ZIPS = (".zip", ".mrb")  # a bundle of 3D Slicer is one
COMPRESSED = (".dcm.gz",)  # one file each; NIfTI has readers for its own
SUFFIXES = (*ZIPS, ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", *COMPRESSED)

# An archive in an archive is unpacked, one in that too; then no more, since one can hold itself.
MOST_NESTED = 3

DISK_BLOCK = 4096  # bytes that the smallest file takes
CHUNK = 2**24  # bytes that are decompressed at a time
LONGEST_PADDING = 2**20  # bytes of zeros after the last file of a tar archive; by default up to 10 KB

_stamps: dict[Path, tuple[int, int]] = {}  # time and size of what was unpacked, by place


def is_archive(path: Path) -> bool:
    """Returns whether it is an archive, by name. A compressed DICOM file is one of one file; ``.nii.gz`` is none."""
    return path.name.lower().endswith(SUFFIXES)


def unpacked(archive: Path) -> Path:
    """Returns the folder with the content of an archive: unpacked once, and again when the archive has changed.

    Raises:
        SourceError: The archive is damaged, encrypted, or larger than the free disk space; or it holds links, devices,
            or paths that lead out of it.
        OutputError: The folder for temporary files cannot be written to.
    """
    archive = archive.resolve()
    place = _place(archive)
    with reading(archive, "an archive"):  # a link may lead nowhere
        stamp = (archive.stat().st_mtime_ns, archive.stat().st_size)
    if _stamps.get(place) == stamp and place.is_dir():
        return place
    if sum(is_archive(Path(part)) for part in place.parts) > MOST_NESTED:
        raise SourceError(f"{archive}: lies in too many archives; unpack them and give the folder")
    if not _is_compressed(archive):  # there are hundreds of them
        say(f"Unpacking {shown(str(archive))}")
    # In place of an older state, or of the archive itself where it lies in another one.
    with folder_written_whole(place, replaces=True, advice="set TMPDIR to a folder on a larger disk") as folder:
        _unpack(archive, folder)
    _stamps[place] = stamp
    return place


def unpacked_content(archive: Path) -> Path:
    """Returns the folder with all that an archive holds: the unpacked one, or the only one in it.

    Raises:
        SourceError: As ``unpacked`` does.
    """
    folder = unpacked(archive)
    while len(inner := [path for path in folder.iterdir() if not is_hidden(path.name)]) == 1 and inner[0].is_dir():
        folder = inner[0]
    return folder


class FolderContents(NamedTuple):
    """What lies in a folder.

    Attributes:
        files: With those in archives in place of the archives.
        problems: Archives that cannot be unpacked.
        notes: What was left out on purpose.
    """

    files: list[Path]
    problems: list[Problem]
    notes: list[str]


def contents(folder: Path) -> FolderContents:
    """Lists all files under a folder, with those in archives in place of the archives.

    Archives that cannot be unpacked become problems; what medseg wrote is left out with a note.
    """
    found = FolderContents([], [], [])
    waiting = [folder]
    while waiting:
        files, outputs = walk(waiting.pop())
        found.notes.extend(f"left out, since medseg wrote it: {shown(str(output))}" for output in outputs)
        for file in files:
            if not is_archive(file):
                found.files.append(file)
            elif (beside := without_suffix(file)).is_dir():
                found.notes.append(f"left out, since {beside.name}/ lies beside it: {shown(str(file))}")
            else:
                try:
                    waiting.append(unpacked(file))
                except SourceError as error:
                    found.problems.append(Problem("", file, f"{error}; left out"))
    found.files.sort()
    return found


def without_suffix(path: Path) -> Path:
    """Returns ``data/study`` for ``data/study.tar.gz``; other paths as they are."""
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), "")
    return path.with_name(path.name[: len(path.name) - len(suffix)]) if suffix else path


def is_unpacked(path: Path) -> bool:
    """Returns whether a file was unpacked, and is gone when the process ends."""
    return shown(str(path)) != str(path)


def origin(path: Path) -> Path:
    """Returns a path as the user knows it: ``study.zip/series1`` for where that was unpacked; others as they are."""
    return Path(shown(str(path)))


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix=UNPACKED, dir=TEMPORARY))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def _place(archive: Path) -> Path:
    return archive if archive.is_relative_to(_root()) else _root() / archive.relative_to(archive.anchor)


def _unpack(archive: Path, folder: Path) -> None:
    with reading(archive, "an archive", "copy or download it again"):
        if archive.suffix.lower() in ZIPS:
            _unpack_zip(archive, folder)
        elif _is_compressed(archive):
            _decompress(archive, folder / archive.stem)
        else:
            _unpack_tar(archive, folder)


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        seen: dict[str, bool] = {}
        for member in members:
            member.filename = member.filename.replace("\\", "/")  # as old programs on Windows write it
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check(archive, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            _check_once(archive, member.filename, member.is_dir(), seen)
        if any(member.flag_bits & 1 for member in members):
            raise SourceError(f"{archive}: is encrypted; unpack it with its password and give the folder")
        _check_size(archive, sum(_on_disk(member.file_size) for member in members))
        for member in members:
            content.extract(member, folder)


def _unpack_tar(archive: Path, folder: Path) -> None:
    size = 0
    seen: dict[str, bool] = {}
    with tarfile.open(archive) as content:
        for member in content:  # sizes are known before anything is written, member by member
            _check(archive, member.name, member.isreg() or member.isdir())
            _check_once(archive, member.name, member.isdir(), seen)
            size += _on_disk(member.size)
            _check_size(archive, size, already=size - _on_disk(member.size))
            content.extract(member, folder, filter="data")
        if content.fileobj is not None:
            content.fileobj.seek(content.offset)
            # tarfile takes anything that is no header for the end, and checksums are compared where the file ends.
            if content.fileobj.read(LONGEST_PADDING).strip(b"\0"):
                raise tarfile.ReadError("it ends in the middle")


def _is_compressed(archive: Path) -> bool:
    return archive.name.lower().endswith(COMPRESSED)


def _decompress(archive: Path, path: Path) -> None:
    size = 0
    with gzip.open(archive) as content, path.open("wb") as file:
        while chunk := content.read(CHUNK):
            size += len(chunk)
            _check_size(archive, size, already=size - len(chunk))
            file.write(chunk)


def _check(archive: Path, name: str, is_file_or_folder: bool) -> None:
    if not is_file_or_folder:
        raise SourceError(f"{archive}: holds a link or a device, '{name}'; unpack it yourself and give the folder")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise SourceError(f"{archive}: holds '{name}', a path that leads out of it, and is not unpacked")


def _check_once(archive: Path, name: str, is_folder: bool, seen: dict[str, bool]) -> None:
    """Checks that a member has a name of its own, since programs differ in which of two of one name they keep.

    Folders may be named again.
    """
    key = PurePosixPath(name).as_posix()
    if key in seen and not (is_folder and seen[key]):
        raise SourceError(f"{archive}: holds '{name}' twice; unpack it yourself and give the folder")
    seen[key] = is_folder


def _on_disk(size: int) -> int:
    return max(1, -(-size // DISK_BLOCK)) * DISK_BLOCK


def _check_size(archive: Path, size: int, already: int = 0) -> None:
    """Checks that a disk has room for what is unpacked.

    Args:
        archive: For messages.
        size: Bytes of all that is unpacked so far, and of the next part.
        already: How many of these bytes are on the disk.

    Raises:
        SourceError: The rest does not fit.
    """
    free = shutil.disk_usage(_root()).free
    if size - already > free:
        raise SourceError(
            f"{archive}: unpacks to more than {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {TEMPORARY}; "
            "set TMPDIR to a folder on a larger disk, or unpack it yourself and give the folder"
        )
