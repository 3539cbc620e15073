"""Outputs appear whole or not at all: they are written beside their place and then renamed. Texts are read in the
encoding that they show."""

import codecs
import json
import math
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medseg.errors import OutputError

UNKNOWN = "backslashreplace"  # for names of files that are not UTF-8; in JSON, such an escape is read as it was

SECONDS_OF_A_LEFTOVER = 3600  # since its last change: until then another call may be writing it
LONGEST_START = 40  # characters of a name that its temporary one repeats: file systems hold 255 bytes
TEMPORARY = re.compile(rf"\.probe-[0-9a-f]{{8}}|\..{{1,{LONGEST_START}}}\.[0-9a-f]{{8}}(\..*)?", re.DOTALL)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path with the same suffixes; renames it to ``path`` when the block succeeds.

    Raises:
        OutputError: The folder cannot be written to.
    """
    ensure_folder(path.parent)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix
    start = path.name[: len(path.name) - len(suffix)][:LONGEST_START]
    temporary = path.parent / f".{start}.{secrets.token_hex(4)}{suffix}"
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)}); choose another -o") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path, *, replaces: bool = False, advice: str = "choose another -o") -> Iterator[Path]:
    """Yields an empty folder beside ``folder``, and renames it to that when the block succeeds.

    Args:
        folder: The folder that appears whole or not at all.
        replaces: Whether it takes the place of an older folder, or file, of that name. The older one is renamed before
            it is removed, so that no part of it ever bears the name.
        advice: What the user can do where it cannot be written.

    Raises:
        OutputError: The folder cannot be written, or is there already and is not to be replaced.
    """
    place = ensure_folder(folder.absolute().parent, advice)
    temporary, older = (place / f".{folder.name[:LONGEST_START]}.{secrets.token_hex(4)}" for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        if replaces and _is_there(folder):
            folder.rename(older)
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({_reason(error)}); {advice}") from error
    finally:
        # Whatever came between, a signal too: the older folder comes back, or stays under its temporary name.
        if _is_there(older) and not _is_there(folder):
            with suppress(OSError):
                older.rename(folder)
        for leftover in (temporary, older) if _is_there(folder) else (temporary,):
            remove(leftover)


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def remove(path: Path) -> None:
    """Removes a file or a folder; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Returns whether it has the name of what the functions above make, and a killed call leaves behind."""
    return TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed calls left in a folder, once they are an hour old.

    Args:
        folder: What lies below its subfolders stays.
    """
    for path in filter(is_temporary, folder.iterdir()):
        with suppress(OSError):  # gone meanwhile, or not ours
            if path.is_file() and time.time() - path.stat().st_mtime > SECONDS_OF_A_LEFTOVER:
                path.unlink()


def modified_at(path: Path) -> int:
    """Returns when a file was written last, in ns since 1970; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def ensure_folder(folder: Path, advice: str = "choose another folder with -o") -> Path:
    """Makes the folder and proves that it can be written to.

    Raises:
        OutputError: It cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); {advice}") from error
    return folder


def read_text(path: Path, largest: int) -> str:
    """Returns a text in UTF-8, or in UTF-16 where its first bytes say so, as spreadsheets write it.

    Args:
        path: The file.
        largest: At most so many bytes are read.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger, no file (a pipe would be waited for), or no such text.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("no file")
    if status.st_size > largest:
        raise ValueError(f"{status.st_size:,} bytes, at most {largest:,} are read")
    content = path.read_bytes()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8, save it as UTF-8") from error


def write_json(path: Path, content: Any) -> Path:
    """Writes JSON; the file appears whole. NaN and infinity, which JSON has not, become null: not defined.

    Raises:
        OutputError: It cannot be written.
    """
    return write_text(path, json_text(content) + "\n")


def json_text(content: Any, indent: int | None = 1) -> str:
    """Returns ``content`` as JSON. NaN and infinity, which JSON has not, become null: not defined.

    Args:
        content: Plain values.
        indent: Of lines; None: all is one line.
    """
    try:
        return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_defined(content), indent=indent, ensure_ascii=False, allow_nan=False)


def _defined(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _defined(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_defined(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_text(path: Path, content: str) -> Path:
    """Writes a text in UTF-8; the file appears whole.

    Raises:
        OutputError: It cannot be written.
    """
    with written_whole(path) as temporary:
        temporary.write_text(content, "utf-8", UNKNOWN)
    return path


def _reason(error: OSError) -> str:
    """Returns why a file cannot be written; numpy, for one, only tells of a full disk how many bytes it could write."""
    return error.strerror or f"{error}; is the disk full?"
