"""A label map that somebody draws: each change is on the disk before it is answered, and can be undone."""

import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from medseg.errors import OutputError, SourceError
from medseg.files import ensure_folder
from medseg.interactive.bounds import Bounds, bounds_around, moved, shape_of, slices
from medseg.volume import Array, Shape3

Kind = Literal["edit", "prompt", "automatic", "interpolated", "undo"]
KINDS: tuple[Kind, ...] = ("edit", "prompt", "automatic", "interpolated", "undo")

# An entry of a journal: kind, time in s since 1970, box, length and checksum of the packed values that follow.
ENTRY = struct.Struct("<4sBd6iII")
MARK = b"mDRW"
HEAD = struct.Struct("<8s3i")  # what it is, and the shape of the label map
MAGIC = b"medsegJ1"

MOST_BYTES = 2**28  # of what can be undone
PAUSE = 60.0  # s: whoever does nothing for longer does something else


class Change(NamedTuple):
    """A part of a label map, and the values that it has now.

    Attributes:
        bounds: The box, half-open, in voxels.
        values: uint8 ``(x, y, z)``, of the shape of the box.
    """

    bounds: Bounds
    values: Array


NO_CHANGE = Change(((0, 0), (0, 0), (0, 0)), np.zeros((0, 0, 0), np.uint8))


class _Done(NamedTuple):
    kind: Kind
    before: Change


class DrawnLabelMap:
    """A label map in network values that is changed box by box, with a journal on the disk.

    A journal that is there already is taken up again: what a killed process had drawn comes back, and can be undone.

    Args:
        start: uint8 ``(x, y, z)``: what is drawn on. It is copied.
        journal: The file of the changes.

    Attributes:
        length: Of the journal, in bytes. One that is longer was changed by somebody else.

    Raises:
        SourceError: The journal belongs to a label map of another shape, or is none.

    Examples:
        >>> import numpy as np
        >>> drawing = DrawnLabelMap(np.zeros((4, 4, 4), np.uint8), Path("drafts/ct.journal"))
        >>> change = drawing.change(((0, 2), (0, 2), (0, 1)), np.ones((2, 2, 1), np.uint8), "edit")
        >>> int(drawing.label_map.sum()), drawing.undo().values.max(), int(drawing.label_map.sum())
        (4, np.uint8(0), 0)
    """

    def __init__(self, start: Array, journal: Path) -> None:
        self.label_map: Array = start.astype(np.uint8)
        self.journal = journal
        self.done: list[_Done] = []
        self.length = 0
        self.seconds = 0.0  # up to the last change
        self._last = time.time() if not journal.is_file() else 0.0
        if journal.is_file():
            self._take_up()

    @property
    def shape(self) -> Shape3:
        """The voxels of the label map along its array axes (x, y, z)."""
        x, y, z = self.label_map.shape
        return x, y, z

    @property
    def is_changed(self) -> bool:
        """Whether anything was drawn since the journal began."""
        return bool(self.done)

    def change(self, bounds: Bounds, values: Array, kind: Kind) -> Change:
        """Sets the values in a box.

        Args:
            bounds: The box, inside of the label map.
            values: uint8, of the shape of the box.
            kind: How they came about.

        Returns:
            The smallest box in which something has changed; an empty one where nothing has.

        Raises:
            OutputError: The journal cannot be written.
        """
        different = self.label_map[slices(bounds)] != values
        inner = bounds_around(different)
        if inner is None:
            return NO_CHANGE
        change = Change(moved(inner, [low for low, _ in bounds]), np.ascontiguousarray(values[slices(inner)], np.uint8))
        self._write(kind, change, time.time())
        self._apply(kind, change)
        return change

    def undo(self) -> Change | None:
        """Takes the last change back.

        Returns:
            The part of the label map that is as it was before; None where nothing is left to undo.
        """
        if not self.done:
            return None
        self._write("undo", None, time.time())
        return self._undo()

    def count(self, *kinds: Kind) -> int:
        """Returns how many changes of some kinds were made and not undone; very old ones may be forgotten."""
        return sum(each.kind in kinds for each in self.done)

    @property
    def last(self) -> Kind | None:
        """The kind of the last change that can be undone; None where there is none."""
        return self.done[-1].kind if self.done else None

    def _apply(self, kind: Kind, change: Change) -> None:
        part = self.label_map[slices(change.bounds)]
        self.done.append(_Done(kind, Change(change.bounds, part.copy())))
        part[:] = change.values
        while len(self.done) > 1 and sum(each.before.values.nbytes for each in self.done) > MOST_BYTES:
            del self.done[0]

    def _undo(self) -> Change:
        undone = self.done.pop()
        self.label_map[slices(undone.before.bounds)] = undone.before.values
        return undone.before

    def _write(self, kind: Kind, change: Change | None, now: float) -> None:
        packed = b"" if change is None else zlib.compress(change.values.tobytes(), 1)
        bounds = (0,) * 6 if change is None else tuple(end for pair in change.bounds for end in pair)
        entry = ENTRY.pack(MARK, KINDS.index(kind), now, *bounds, len(packed), zlib.crc32(packed))
        whole = self.journal.stat().st_size if self.journal.is_file() else 0
        if not whole:
            ensure_folder(self.journal.parent)
            entry = HEAD.pack(MAGIC, *self.shape) + entry
        try:
            with self.journal.open("ab") as file:
                file.write(entry + packed)
        except OSError as error:
            self._cut_to(whole)
            raise OutputError(f"{self.journal}: cannot be written ({error.strerror or error})") from error
        self.length += len(entry) + len(packed)
        self._passes(now)

    def _cut_to(self, whole: int) -> None:
        """Removes what a full disk left of an entry: nothing that comes after a torn one would ever be read."""
        with suppress(OSError):
            if whole:
                os.truncate(self.journal, whole)
            else:
                self.journal.unlink(missing_ok=True)

    def seconds_of_work(self) -> float:
        """Returns the seconds from the first look to now; of a pause of more than a minute, a minute counts."""
        self._passes(time.time())
        return self.seconds

    def _passes(self, now: float) -> None:
        self.seconds += min(max(now - self._last, 0.0), PAUSE) if self._last else 0.0
        self._last = now

    def _take_up(self) -> None:
        content = self.journal.read_bytes()
        if len(content) < HEAD.size and HEAD.pack(MAGIC, *self.shape).startswith(content):
            self._cut_to(0)  # the process was killed as it began
            return
        advice = "remove it to begin anew"
        if len(content) < HEAD.size or not content.startswith(MAGIC):
            raise SourceError(f"{self.journal}: is no journal of a drawing; {advice}")
        shape = HEAD.unpack_from(content)[1:]
        if shape != self.shape:
            raise SourceError(f"{self.journal}: was drawn on {shape} voxels, the image has {self.shape}; {advice}")
        whole = HEAD.size
        for kind, change, now, whole in _entries(content, self.shape):  # noqa: B007
            if change is not None:
                self._apply(kind, change)
            elif self.done:
                self._undo()
            self._passes(now)
        if whole < len(content):  # the last entry is cut short, since the process was killed
            os.truncate(self.journal, whole)
        self.length = whole


def _entries(content: bytes, shape: Shape3) -> Iterator[tuple[Kind, Change | None, float, int]]:
    """Yields the whole entries of a journal, each with where it ends."""
    at = HEAD.size
    while at + ENTRY.size <= len(content):
        mark, kind, now, *rest = ENTRY.unpack_from(content, at)
        *ends, length, checksum = rest
        packed = content[at + ENTRY.size : at + ENTRY.size + length]
        at += ENTRY.size + length
        if mark != MARK or kind >= len(KINDS) or len(packed) < length or zlib.crc32(packed) != checksum:
            return
        bounds: Bounds = ((ends[0], ends[1]), (ends[2], ends[3]), (ends[4], ends[5]))
        if KINDS[kind] == "undo":
            yield "undo", None, now, at
        elif all(0 <= start < stop <= n for (start, stop), n in zip(bounds, shape, strict=True)):
            size = int(np.prod(shape_of(bounds)))
            unpacked = zlib.decompressobj().decompress(packed, size)
            if len(unpacked) != size:
                return
            yield KINDS[kind], Change(bounds, np.frombuffer(unpacked, np.uint8).reshape(shape_of(bounds))), now, at
        else:
            return
