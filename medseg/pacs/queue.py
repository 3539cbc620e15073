"""A queue on the disk: studies that were received, what is to be predicted of them, and what is to be sent.

It survives a kill and a power cut. What a row says is on the disk before anything that depends on it is done.
"""

import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.files import ensure_folder
from medseg.pacs.commitments import CommitmentQueue
from medseg.pacs.database import QueueDatabase
from medseg.pacs.deaths import Deaths
from medseg.pacs.deliveries import DeliveryQueue
from medseg.pacs.jobs import JobQueue
from medseg.pacs.received import STUDIES, Instance, ReceivedStudies, sha256_of

RESULTS, RECEIVING, REMOVED = "results", "receiving", "removed"


class StudyQueue:
    """The folder of received studies and results, and the tables that say what is to be done with them.

    All methods may be called from several threads. Only one process may have a queue open.

    Args:
        folder: Is made where it is not there.

    Raises:
        OutputError: It cannot be written, or another process has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = ensure_folder(folder, "choose another --queue").resolve()
        for name in (STUDIES, RESULTS, RECEIVING, REMOVED):
            (self.folder / name).mkdir(exist_ok=True)
        self._tables = QueueDatabase(self.folder)
        self.received = ReceivedStudies(self.folder, self._tables)
        self.jobs = JobQueue(self._tables)
        self.deliveries = DeliveryQueue(self._tables)
        self.commitments = CommitmentQueue(self._tables)
        self.deaths = Deaths(self.folder, self._tables)
        self.last_deaths = self.deaths.judge()  # of the process before
        self._recover()

    def close(self) -> None:
        """Closes the database; all is on the disk already."""
        self._tables.close()

    def results_of(self, job: str) -> Path:
        """Returns the folder of a job's results."""
        return self.folder / RESULTS / job

    def drop_results(self, job: str) -> None:
        """Removes the results of a job, where there are any."""
        shutil.rmtree(self.results_of(job), ignore_errors=True)

    def finish_studies(self) -> list[str]:
        """Returns the studies whose last result has just been sent, or given up, and notes that they are done."""
        with self._tables.changing() as database:
            rows = database.execute(
                "SELECT study FROM study WHERE state='working' AND NOT EXISTS(SELECT 1 FROM job WHERE "
                "job.study=study.study AND (job.state IN ('waiting','predicting') OR EXISTS(SELECT 1 FROM delivery "
                "WHERE delivery.job=job.job AND delivery.state='waiting')))"
            ).fetchall()
            done = [str(row[0]) for row in rows]
            database.executemany(
                "UPDATE study SET state='done', changed=? WHERE study=?", [(time.time(), study) for study in done]
            )
        return done

    def finished(self) -> list[tuple[str, float]]:
        """Returns the studies that nothing is to be done with, and since when, the oldest first."""
        return self._tables.rows("SELECT study, changed FROM study WHERE state IN ('done','left') ORDER BY changed")

    def remove(self, study: str) -> None:
        """Removes a study with its results, if it is finished. What is killed on the way is ended at the next start."""
        removed = self.folder / REMOVED
        with self._tables.changing() as database:
            state = database.execute("SELECT state FROM study WHERE study=?", (study,)).fetchone()
            if state is None or state[0] not in ("done", "left"):
                return
            jobs = [str(row[0]) for row in database.execute("SELECT job FROM job WHERE study=?", (study,))]
            for folder in (self.folder / STUDIES / study, *map(self.results_of, jobs)):
                if folder.is_dir():
                    folder.rename(removed / f"{folder.name}-{time.time_ns()}")
            self._forget(database, study, jobs)
        shutil.rmtree(removed, ignore_errors=True)
        removed.mkdir(exist_ok=True)

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Returns how many studies, jobs and deliveries are in each state."""
        return {
            table: dict(self._tables.rows(f"SELECT state, count(*) FROM {table} GROUP BY state"))
            for table in ("study", "job", "delivery")
        }

    def size(self) -> int:
        """Returns the bytes of all received instances."""
        return int(self._tables.value("SELECT sum(size) FROM instance") or 0)

    def entries(self, most: int = 200) -> list[dict[str, Any]]:
        """Returns the last studies with their jobs and deliveries, for people who look after the queue."""
        found, of_study = [], "SELECT job, model, state, reason FROM job WHERE study=? ORDER BY job"
        for study, caller, state, reason, last in self._tables.rows(
            "SELECT study, caller, state, reason, last FROM study ORDER BY changed DESC LIMIT ?", (most,)
        ):
            jobs = [
                {"job": row[0], "model": row[1], "state": row[2], "reason": row[3], "sent": self._sendings(row[0])}
                for row in self._tables.rows(of_study, (study,))
            ]
            instances = self._tables.value("SELECT count(*) FROM instance WHERE study=?", (study,))
            found.append(
                {"study": study, "caller": caller, "state": state, "reason": reason, "last_received": last,
                 "instances": instances, "jobs": jobs}
            )  # fmt: skip
        return found

    def _sendings(self, job: str) -> list[dict[str, Any]]:
        rows = self._tables.rows("SELECT file, destination, state, tries, reason FROM delivery WHERE job=?", (job,))
        return [dict(zip(("file", "to", "state", "tries", "reason"), row, strict=True)) for row in rows]

    def _recover(self) -> None:
        """Brings the tables to what is on the disk: after a kill, a power cut, or a backup that was put back."""
        shutil.rmtree(self.folder / RECEIVING, ignore_errors=True)
        shutil.rmtree(self.folder / REMOVED, ignore_errors=True)
        for name in (RECEIVING, REMOVED):
            (self.folder / name).mkdir(exist_ok=True)
        with self._tables.changing() as database:
            database.execute("UPDATE job SET state='waiting' WHERE state='predicting'")
            for (study,) in database.execute("SELECT study FROM study").fetchall():
                if not (self.folder / STUDIES / study).is_dir():
                    jobs = [str(row[0]) for row in database.execute("SELECT job FROM job WHERE study=?", (study,))]
                    self._forget(database, study, jobs)
        known = {Instance(*row) for row in self._tables.rows("SELECT study, series, instance FROM instance")}
        for path in sorted((self.folder / STUDIES).glob("*/*/*.dcm")):
            instance = Instance(path.parent.parent.name, path.parent.name, path.stem)
            if instance not in known:  # it was never acknowledged: whether it is sent again, nobody knows
                self.received.add(instance, "", "", sha256_of(path), path.stat().st_size)

    @staticmethod
    def _forget(database: sqlite3.Connection, study: str, jobs: Sequence[str]) -> None:
        database.executemany("DELETE FROM delivery WHERE job=?", [(job,) for job in jobs])
        database.executemany("DELETE FROM death WHERE work=?", [(each,) for each in (study, *jobs)])
        for table in ("job", "instance", "study"):
            database.execute(f"DELETE FROM {table} WHERE study=?", (study,))
