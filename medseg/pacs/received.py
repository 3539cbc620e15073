"""What was received: studies, series and instances, by names that tell nobody whose they are.

The names are made of UIDs by SHA-256, so that neither paths nor logs hold anything that identifies a patient.
"""

import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.pacs.database import QueueDatabase

LONGEST_UID = 64
UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")

STUDIES = "studies"  # the folder of what was received, below that of the queue


@dataclass(frozen=True)
class Instance:
    """One DICOM object by the names that it has in the queue.

    Attributes:
        study: Of its study.
        series: Of its series.
        instance: Its own.
    """

    study: str
    series: str
    instance: str

    @property
    def path(self) -> Path:
        """The path of the file, below the queue's folder."""
        return Path(STUDIES) / self.study / self.series / f"{self.instance}.dcm"


def token_of(uid: str) -> str:
    """Returns the name that a UID has in the queue: the start of its SHA-256.

    Examples:
        >>> token_of("1.2.840.10008.1.1")
        '7a96f697a695cd075610'
    """
    return hashlib.sha256(uid.encode("utf-8", "replace")).hexdigest()[:20]


def series_name(token: str, part: str) -> str:
    """Returns how a series is named in messages and in the names of its masks, without its UID.

    Args:
        token: ``token_of`` its UID.
        part: Which of its volumes; "" where it holds one.

    Examples:
        >>> series_name("7a96f697a695cd075610", "time-03")
        '7a96f697-time-03'
    """
    return f"{token[:8]}{f'-{part}' if part else ''}"


def is_uid(text: str) -> bool:
    """Says whether a text is a UID (PS3.5, 9.1; leading zeros, which some programs write, may stand).

    Examples:
        >>> is_uid("1.2.840"), is_uid("../1")
        (True, False)
    """
    return len(text) <= LONGEST_UID and UID.fullmatch(text) is not None


class ReceivedStudies:
    """The studies of a queue, and when their last instances came.

    Args:
        folder: Of the queue.
        tables: Its database.
    """

    def __init__(self, folder: Path, tables: QueueDatabase) -> None:
        self.folder = folder
        self._tables = tables
        self._opened_at = time.time()

    def take(self, file: Path, instance: Instance, uid: str, caller: str) -> None:
        """Moves a file to its place, and notes the instance; both are on the disk when this returns.

        Args:
            file: On the same disk.
            instance: Its names.
            uid: The StudyInstanceUID.
            caller: The AE title that sent it.
        """
        digest, size = sha256_of(file), file.stat().st_size
        flush(file)
        place = self.folder / instance.path
        with self._tables.changing():  # nobody removes the study meanwhile, nor sends the same instance
            is_new = not place.parent.is_dir()
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
            for folder in list(place.parents)[: 3 if is_new else 1]:
                flush(folder)
            self.add(instance, uid, caller, digest, size)

    def add(self, instance: Instance, uid: str, caller: str, digest: str, size: int) -> None:
        """Notes an instance whose file is in place, flushed.

        Args:
            instance: Its names.
            uid: The StudyInstanceUID.
            caller: The AE title that sent it.
            digest: The SHA-256 of its file.
            size: Of the file, in bytes.
        """
        now = time.time()
        with self._tables.changing() as database:
            database.execute(
                "INSERT OR REPLACE INTO instance VALUES(?,?,?,?,?)",
                (instance.study, instance.series, instance.instance, digest, size),
            )
            database.execute(  # what was left is tried again where it is sent again
                "DELETE FROM death WHERE work=(SELECT study FROM study WHERE study=? AND state!='receiving')",
                (instance.study,),
            )
            database.execute(
                "INSERT INTO study VALUES(?,?,?,?,?,'receiving','',?) ON CONFLICT(study) DO UPDATE SET "
                "last=excluded.last, changed=excluded.changed, uid=max(uid, excluded.uid), "
                "caller=CASE WHEN excluded.caller='' THEN caller ELSE excluded.caller END, "
                "first=CASE WHEN state='receiving' THEN first ELSE excluded.first END, state='receiving', reason=''",
                (instance.study, uid, caller, now, now, now),
            )

    def complete_study(self, quiet: float, longest: float) -> str | None:
        """Returns a study of which nothing came for ``quiet`` seconds, or that began ``longest`` seconds ago."""
        now = time.time()
        if 0 <= now - self._opened_at < quiet:  # while there was no listener, nobody could send
            return None
        found = self._tables.value(
            "SELECT study FROM study LEFT JOIN death ON work=study WHERE state='receiving' AND "
            "(last<=? OR first<=? OR last>?) ORDER BY coalesce(crashes+kills, 0), last LIMIT 1",
            (now - quiet, now - longest, now + 1),  # a clock that was set back would let studies wait for ages
        )
        return None if found is None else str(found)

    def receiving(self) -> list[tuple[str, str, int]]:
        """Returns the studies that are being received: name, UID and number of instances."""
        return self._tables.rows(
            "SELECT study, uid, (SELECT count(*) FROM instance WHERE instance.study=study.study) FROM study "
            "WHERE state='receiving'"
        )

    def received_at(self, study: str) -> float:
        """Returns when the last instance of a study came, in seconds since 1970; 0 where there is no such study."""
        return float(self._tables.value("SELECT last FROM study WHERE study=?", (study,)) or 0)

    def caller_of(self, study: str) -> str:
        """Returns the AE title that sent a study."""
        return str(self._tables.value("SELECT caller FROM study WHERE study=?", (study,)) or "")

    def inputs_digest(self, study: str, series: Sequence[str]) -> str:
        """Returns a digest of all received objects of some series of a study."""
        digest = hashlib.sha256()
        for each in series:
            rows = self._tables.rows(
                "SELECT instance, digest FROM instance WHERE study=? AND series=? ORDER BY instance", (study, each)
            )
            digest.update(repr((each, rows)).encode())
        return digest.hexdigest()


def sha256_of(file: Path) -> str:
    """Returns the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Makes the disk hold what was written to a file, or which files a folder has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
