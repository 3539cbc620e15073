"""Outputs appear whole or not at all: they are written beside their place and then renamed."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.errors import OutputError

UNKNOWN = "backslashreplace"  # for names of files that are not UTF-8; in JSON, such an escape is read as it was


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path with the same suffixes; renames it to ``path`` when the block succeeds.

    Raises ``OutputError`` when the folder cannot be written to.
    """
    ensure_folder(path.parent)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix
    temporary = path.parent / f".{path.name[: len(path.name) - len(suffix)]}.{secrets.token_hex(4)}{suffix}"
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)}); choose another -o") from error
    finally:
        temporary.unlink(missing_ok=True)


def ensure_folder(folder: Path) -> Path:
    """Makes the folder and proves that it can be written to. Raises ``OutputError`` otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another folder with -o"
        ) from error
    return folder


def write_json(path: Path, content: Any) -> Path:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8", UNKNOWN)
    return path


def write_text(path: Path, content: str) -> Path:
    with written_whole(path) as temporary:
        temporary.write_text(content, "utf-8", UNKNOWN)
    return path


def _reason(error: OSError) -> str:
    """numpy, for one, only tells of a full disk how many bytes it could write."""
    return error.strerror or f"{error}; is the disk full?"
