"""Names of structures, which may be any text, as file systems and DICOM can hold them.

Where the name of a file cannot hold that of its structure, names.json beside it does.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ConfigDict, JsonValue

from medseg.records import Record, read_record, write_record

NAMES_FILE = "names.json"

LONGEST_FILE_NAME = 120  # bytes, without suffixes: file systems hold 255, some that encrypt 143
LONGEST_LABEL = 64  # characters, DICOM's value representation LO

# Names of devices, which Windows takes for these whatever follows their first dot.
RESERVED = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9¹²³])(?:\.|$)", re.IGNORECASE)


class NamesRecord(Record):
    """The names of structures by the names of their files, in the same folder."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    def name_of(self, file: str) -> str | None:
        """Returns the name of the structure in a file, or None where it is not listed."""
        name = self.__pydantic_extra__.get(file)
        return None if name is None else str(name)


def read_names(folder: Path) -> NamesRecord:
    """Returns names.json of a folder; without entries where there is none.

    Raises:
        SourceError: The file is no JSON object.
    """
    path = folder / NAMES_FILE
    return read_record(path, NamesRecord, "copy it again") if path.is_file() else NamesRecord()


def write_names(folder: Path, names: Mapping[str, str]) -> Path:
    """Writes names.json into a folder, and returns its path.

    Args:
        folder: The folder of the files.
        names: Names of structures by names of files.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(folder / NAMES_FILE, NamesRecord.model_validate(dict(names)))


def file_name(name: str, longest: int = LONGEST_FILE_NAME) -> str:
    """Returns a name that every file system takes, to which suffixes can be added.

    It has letters, digits, ``_``, ``-``, and dots inside.

    Args:
        name: Of a structure: any text.
        longest: Bytes in UTF-8 that it may have.
    """
    safe = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", name)).strip(".")
    safe = f"_{safe}" if RESERVED.match(safe) else safe
    return shortened(safe, longest).rstrip(".") or "_"  # Windows drops dots at the end


def file_names(names: Sequence[str], longest: int = LONGEST_FILE_NAME) -> list[str]:
    """Returns a file name for each name, of which no file system takes two for one: it may ignore case.

    Args:
        names: Of structures: any text.
        longest: Bytes in UTF-8 that each may have.
    """
    return _distinct(
        [file_name(name, longest) for name in names],
        lambda name, number: f"{shortened(name, longest - len(str(number)) - 1)}_{number}",
        str.casefold,
    )


def storable_text(name: str) -> str:
    """Returns a name with spaces for what no file can hold as text: control characters, and halves of characters."""
    return "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in name)


def text_names(names: Sequence[str]) -> list[str]:
    """Returns a name for each that files can hold as text, no two the same."""
    return _distinct([storable_text(name) for name in names], "{} ({})".format, str)


def dicom_label(name: str, longest: int = LONGEST_LABEL) -> str:
    """Returns a name as one DICOM value: no backslash, which parts values, no control characters, not too long.

    Args:
        name: Any text.
        longest: Characters that it may have.
    """
    return storable_text(name).replace("\\", "/").strip()[:longest].strip()


def dicom_labels(names: Sequence[str]) -> list[str]:
    """Returns a DICOM value for each name, none empty, and no two the same."""
    return _distinct([dicom_label(name) or "unnamed" for name in names], _numbered, str)


def whole_name(label: str, whole: str) -> str:
    """Returns the name that a label is short for, where a file holds that too; else the label.

    Args:
        label: Such as SegmentLabel.
        whole: What may be the whole name, such as TrackingID.
    """
    short = dicom_label(whole)
    number = re.search(r" \((\d+)\)$", label)
    return whole if short and label in (short, _numbered(short, int(number[1])) if number else short) else label


def shortened(name: str, longest: int) -> str:
    """Returns the first characters of a name, of so many bytes in UTF-8 at most.

    Args:
        name: Any text.
        longest: Bytes.
    """
    return name.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore")


def _numbered(label: str, number: int) -> str:
    return f"{label[: LONGEST_LABEL - len(str(number)) - 3].strip()} ({number})"


def _distinct(names: Sequence[str], numbered: Callable[[str, int], str], fold: Callable[[str], str]) -> list[str]:
    """Returns the names with a number for those that came before.

    Args:
        names: Any texts.
        numbered: Adds a number to a name.
        fold: What of two names may not be the same.
    """
    given, taken = {fold(name) for name in names}, set[str]()
    result = []
    for name in names:
        chosen, number = name, 1
        while fold(chosen) in (taken if number == 1 else given | taken):
            number += 1
            chosen = numbered(name, number)
        taken.add(fold(chosen))
        result.append(chosen)
    return result
