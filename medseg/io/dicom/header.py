"""What the header of a DICOM file, or of one slice in it, says: each value as what it should be.

Headers come from anywhere. Any element may hold two values, a word for a number, nothing, or be of the wrong kind
altogether. All that medseg reads of a header comes through ``Header``, which gives a value of the right type or raises
a ``SourceError`` that names the file and the element.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ImplicitVRLittleEndian

from medseg.errors import SourceError, reason_of

Tag = str | int  # a keyword, or the number of a private tag

# Files whose parsed headers are kept: the volumes of a file are read one after the other.
FILES_KEPT = 2

LONGEST_SHOWN = 40  # characters of a bad value in a message


@dataclass(frozen=True, eq=False)
class Header:
    """What the header of a file, of one slice in it, or an item of a sequence says.

    Attributes:
        path: Of the file, for messages.
        dataset: The elements as pydicom has parsed them. It is for what copies or rewrites them, never for reading a
            value.
        frame: The number of the slice, from 0, in a file with several; else None.
    """

    path: Path
    dataset: Dataset
    frame: int | None = None

    def __contains__(self, tag: Tag) -> bool:
        """Says whether there is such an element, and it is not empty."""
        return self.value(tag) is not None

    @property
    def sop_class(self) -> str:
        """The UID of what kind of object it is: that of the file's meta header where the object has lost its own."""
        meta = getattr(self.dataset, "file_meta", None)
        return self.text("SOPClassUID") or (Header(self.path, meta).text("MediaStorageSOPClassUID") if meta else "")

    def value(self, tag: Tag) -> Any:
        """Returns a value as pydicom gives it, of whatever type; None for what is absent or empty.

        Raises:
            SourceError: It cannot be read.
        """
        try:
            return self._value(_number_of(tag))
        except Exception as error:  # pydicom converts values when they are asked for, and raises many kinds
            raise SourceError(
                f"{self.path}: {_name(tag)} in its header cannot be read ({reason_of(error)}); export it again"
            ) from error

    def number(self, tag: Tag) -> float | None:
        """Returns a number; None for what is absent or empty.

        Raises:
            SourceError: It is no number, not finite, or there are several.
        """
        value = self.value(tag)
        return None if value is None else self._as_number(tag, self._single(tag, value))

    def numbers(self, tag: Tag, count: int) -> tuple[float, ...] | None:
        """Returns several numbers; None for what is absent or empty.

        Args:
            tag: The keyword, or the number of a private tag.
            count: How many there have to be.

        Raises:
            SourceError: There are not as many, or one is no number.
        """
        value = self.value(tag)
        if value is None:
            return None
        values = list(value) if is_several(value) else [value]
        if len(values) != count:
            raise self._wrong(tag, value, f"{count} numbers")
        return tuple(self._as_number(tag, each) for each in values)

    def whole(self, tag: Tag) -> int | None:
        """Returns a whole number; None for what is absent or empty.

        Raises:
            SourceError: It is no whole number, or there are several.
        """
        number = self.number(tag)
        if number is not None and number != int(number):
            raise self._wrong(tag, number, "a whole number")
        return None if number is None else int(number)

    def number_if_any(self, tag: Tag) -> float | None:
        """Returns a number that nothing depends on; None also where it cannot be read."""
        try:
            return self.number(tag)
        except SourceError:
            return None

    def text(self, tag: Tag) -> str:
        """Returns a text; empty where there is none. Several values are parted by backslashes, as in the file.

        Raises:
            SourceError: It cannot be read.
        """
        return "\\".join(self.texts(tag))

    def texts(self, tag: Tag) -> list[str]:
        """Returns each of several values as text, without spaces around it; none for what is absent, empty or a
        sequence.

        Raises:
            SourceError: They cannot be read.
        """
        value = self.value(tag)
        if value is None or isinstance(value, (Dataset, Items)):
            return []
        return [_as_text(each) for each in (value if is_several(value) else [value])]

    def items(self, tag: Tag) -> list["Header"]:
        """Returns the items of a sequence; none where it is absent or empty.

        Raises:
            SourceError: It is no sequence, or cannot be read.
        """
        value = self.value(tag)
        if value is None:
            return []
        if not isinstance(value, Items):
            raise self._wrong(tag, value, "a sequence")
        return [Header(self.path, item) for item in value]

    def item(self, tag: Tag) -> "Header":
        """Returns the first item of a sequence; an empty one where there is none.

        Raises:
            SourceError: It is no sequence, or cannot be read.
        """
        items = self.items(tag)
        return items[0] if items else Header(self.path, Dataset())

    def _value(self, tag: int) -> Any:
        return value_in(self.dataset, tag)

    def _single(self, tag: Tag, value: Any) -> Any:
        if not is_several(value):
            return value
        if len(value) != 1:
            raise self._wrong(tag, value, "one number")
        return value[0]

    def _as_number(self, tag: Tag, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(tag, value, "a number")
        return number

    def _wrong(self, tag: Tag, value: Any, expected: str) -> SourceError:
        """Returns the error for a bad value; it is not raised here, so that the type checker sees where the way
        ends."""
        return SourceError(
            f"{self.path}: {_name(tag)} in its header should be {expected}, but is {_shown(value)}; export it again"
        )


class StoredPixels(NamedTuple):
    """Where in a file the pixels are stored.

    Attributes:
        keyword: PixelData, FloatPixelData or DoubleFloatPixelData.
        vr: The value representation.
        offset: Of the value, in bytes from the start of the file.
        length: Bytes of the value; None for compressed pixels, which lie in fragments.
    """

    keyword: str
    vr: str
    offset: int
    length: int | None


@dataclass(frozen=True, eq=False)
class FileHeader(Header):
    """What the header of a whole file says.

    Attributes:
        size: Of the file, in bytes.
        syntax: The transfer syntax.
        pixels: Where they lie; None where the file has none.
    """

    size: int = 0
    syntax: UID = ImplicitVRLittleEndian
    pixels: StoredPixels | None = None


def value_in(dataset: Dataset, tag: int) -> Any:
    """Returns a value as pydicom gives it; None for what is absent or empty. What pydicom raises comes as it is.

    Args:
        dataset: The elements.
        tag: The number of the tag.
    """
    if tag not in dataset:
        return None
    value = dataset[tag].value
    is_empty = value is None or (isinstance(value, (str, bytes, Sequence, Items)) and len(value) == 0)
    return None if is_empty else value


@cache
def _number_of(tag: Tag) -> int:
    number = tag_for_keyword(tag) if isinstance(tag, str) else tag
    if number is None:
        raise KeyError(f"DICOM has no element '{tag}'")
    return int(number)


def _name(tag: Tag) -> str:
    return tag if isinstance(tag, str) else keyword_for_tag(tag) or f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def is_several(value: Any) -> bool:
    """Says whether a value of pydicom consists of several."""
    return isinstance(value, (MultiValue, list, tuple))


def _as_text(value: Any) -> str:
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip(" \0\t\r\n")


def _shown(value: Any) -> str:
    if isinstance(value, Items):
        return "a sequence"
    text = "\\".join(map(_as_text, value)) if is_several(value) else _as_text(value)
    printable = "".join(character if character.isprintable() else "?" for character in text[: LONGEST_SHOWN + 1])
    return f"'{printable}'" if len(printable) <= LONGEST_SHOWN else f"'{printable[:LONGEST_SHOWN]}…'"
