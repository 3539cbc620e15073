"""What is to be predicted: a case of a study by a model each."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medseg.pacs.database import QueueDatabase

SUPERSEDED = "more of the study has come: a later result takes its place"


@dataclass(frozen=True)
class Job:
    """A case of a study that a model is to segment.

    Attributes:
        name: Follows from the model and the received objects, so that the same case is the same job.
        study: The study's name in the queue.
        model: The model's name.
        series: The names of the series of its images, one a channel.
        parts: Which volume of each series, where that holds several.
    """

    name: str
    study: str
    model: str
    series: tuple[str, ...]
    parts: tuple[str, ...]


class JobQueue:
    """The jobs of a queue, in the order in which they came.

    Args:
        tables: The database of the queue.
    """

    def __init__(self, tables: QueueDatabase) -> None:
        self._tables = tables

    def plan(self, study: str, received_at: float, jobs: Sequence[Job], reason: str) -> bool:
        """Adds the jobs of a study that is complete; those that are known already stay as they are.

        Args:
            study: Its name.
            received_at: What ``received_at`` said before the jobs were made.
            jobs: What is to be predicted.
            reason: Why nothing is, where that is so.

        Returns:
            False, and nothing changes, where more of the study has come since.
        """
        now = time.time()
        with self._tables.changing() as database:
            changed = database.execute(
                "UPDATE study SET state=?, reason=?, changed=? WHERE study=? AND state='receiving' AND last=?",
                ("working" if jobs else "left", reason, now, study, received_at),
            )
            if not changed.rowcount:
                return False
            names = [job.name for job in jobs]
            marks = ",".join("?" * len(names))
            database.execute(  # of an earlier state of the study
                f"DELETE FROM job WHERE study=? AND state='waiting' AND job NOT IN ({marks})", (study, *names)
            )
            # What failed is tried again where the study is sent again.
            again = f"WHERE state='failed' AND job IN ({marks})"
            database.execute(f"DELETE FROM death WHERE work IN (SELECT job FROM job {again})", names)
            database.execute(f"UPDATE job SET state='waiting' {again}", names)
            database.execute(f"UPDATE delivery SET state='waiting', tries=0, due=? {again}", (now, *names))
            if names:  # results of before have the same UIDs, and would replace those that come
                database.execute(
                    "UPDATE delivery SET state='failed', reason=? WHERE state='waiting' AND job IN "
                    f"(SELECT job FROM job WHERE study=? AND job NOT IN ({marks}))",
                    (SUPERSEDED, study, *names),
                )
            database.executemany(
                "INSERT OR IGNORE INTO job VALUES(?,?,?,?,?,'waiting','',?)",
                [(j.name, study, j.model, "\n".join(j.series), "\n".join(j.parts), now) for j in jobs],
            )
        return True

    def next_job(self) -> Job | None:
        """Returns the job that has waited longest; one during which the process ended comes after all others."""
        rows = self._tables.rows(
            "SELECT job, study, model, series, parts FROM job LEFT JOIN death ON work=job WHERE state='waiting' "
            "ORDER BY coalesce(crashes+kills, 0), changed, job LIMIT 1"
        )
        for name, study, model, series, parts in rows:
            return Job(name, study, model, tuple(series.split("\n")), tuple(parts.split("\n")))
        return None

    def begin(self, job: Job) -> None:
        """Notes that a job is begun."""
        with self._tables.changing() as database:
            database.execute("UPDATE job SET state='predicting', changed=? WHERE job=?", (time.time(), job.name))

    def hand_back(self, job: str) -> None:
        """Lets a job wait again, as if it had not been begun."""
        with self._tables.changing() as database:
            database.execute("UPDATE job SET state='waiting' WHERE job=? AND state='predicting'", (job,))

    def end(self, job: Job, state: str, reason: str = "", deliveries: Iterable[tuple[str, str]] = ()) -> None:
        """Notes that a job is done.

        Args:
            job: The job.
            state: "predicted" or "failed".
            reason: Why, of one that failed.
            deliveries: Name of the file and destination of what is to be sent.
        """
        now = time.time()
        with self._tables.changing() as database:
            database.execute("UPDATE job SET state=?, reason=?, changed=? WHERE job=?", (state, reason, now, job.name))
            database.executemany(
                "INSERT OR IGNORE INTO delivery VALUES(?,?,?,'waiting',0,?,'')",
                [(job.name, file, destination, now) for file, destination in deliveries],
            )

    def drop(self, job: Job) -> None:
        """Removes a job whose images have changed: the study is looked at again."""
        with self._tables.changing() as database:
            database.execute("DELETE FROM job WHERE job=?", (job.name,))
