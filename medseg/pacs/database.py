"""The database of a queue: SQLite with a write-ahead log, in a folder that one process has for itself."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.errors import OutputError

DATABASE = "queue.sqlite"

TABLES = """
CREATE TABLE IF NOT EXISTS study(
    study TEXT PRIMARY KEY, uid TEXT NOT NULL, caller TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', changed REAL NOT NULL);
CREATE TABLE IF NOT EXISTS instance(
    study TEXT NOT NULL, series TEXT NOT NULL, instance TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY(study, series, instance));
CREATE TABLE IF NOT EXISTS job(
    job TEXT PRIMARY KEY, study TEXT NOT NULL, model TEXT NOT NULL, series TEXT NOT NULL, parts TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', changed REAL NOT NULL);
CREATE TABLE IF NOT EXISTS delivery(
    job TEXT NOT NULL, file TEXT NOT NULL, destination TEXT NOT NULL, state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY(job, file, destination));
CREATE TABLE IF NOT EXISTS under_way(work TEXT PRIMARY KEY, boot TEXT NOT NULL, kernel INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS death(work TEXT PRIMARY KEY, crashes INTEGER NOT NULL, kills INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS commitment(
    transaction_uid TEXT PRIMARY KEY, caller TEXT NOT NULL, instances TEXT NOT NULL, tries INTEGER NOT NULL,
    due REAL NOT NULL);
CREATE INDEX IF NOT EXISTS study_by_state ON study(state);
CREATE INDEX IF NOT EXISTS instance_by_name ON instance(instance);
CREATE INDEX IF NOT EXISTS job_by_state ON job(state);
CREATE INDEX IF NOT EXISTS job_by_study ON job(study);
CREATE INDEX IF NOT EXISTS delivery_by_state ON delivery(state, due);
"""


class QueueDatabase:
    """Tables whose changes are on the disk (``synchronous=FULL``) before anything that depends on them is done.

    All methods may be called from several threads.

    Args:
        folder: Where it lies.

    Raises:
        OutputError: It cannot be used, or another process has it open.
    """

    def __init__(self, folder: Path) -> None:
        self._one_process = _locked(folder)
        self._lock = threading.RLock()
        file = folder / DATABASE
        try:
            self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(TABLES)
        except sqlite3.Error as error:
            raise OutputError(f"{file}: cannot be used ({error}); choose another --queue") from error

    def close(self) -> None:
        """Closes the database; all is on the disk already."""
        with self._lock:
            self._database.close()
        os.close(self._one_process)

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Yields the database; all changes of the block are made, and flushed to the disk, or none. Blocks may be
        nested, and then are one."""
        with self._lock:
            if self._database.in_transaction:
                yield self._database
                return
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                self._database.rollback()
                raise

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Returns what a query finds."""
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def value(self, query: str, values: Sequence[object] = ()) -> Any:
        """Returns the first value that a query finds; None where it finds none."""
        rows = self.rows(query, values)
        return rows[0][0] if rows else None


def _locked(folder: Path) -> int:
    """Returns the descriptor of the file by which one process alone has the folder."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        pass
    except OSError as error:
        os.close(descriptor)
        raise OutputError(f"{folder}: another medseg serves this queue; end it, or choose another --queue") from error
    return descriptor
