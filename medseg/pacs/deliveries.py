"""What is to be sent: a file of results to a destination each."""

import time
from dataclasses import dataclass

from medseg.pacs.database import QueueDatabase


@dataclass(frozen=True)
class Delivery:
    """A file of results that is to be sent somewhere.

    Attributes:
        job: Whose result it is.
        file: Its name in the job's folder of results.
        destination: Where it goes, as the settings have it.
        tries: How many times that failed.
    """

    job: str
    file: str
    destination: str
    tries: int = 0


class DeliveryQueue:
    """The deliveries of a queue.

    Args:
        tables: The database of the queue.
    """

    def __init__(self, tables: QueueDatabase) -> None:
        self._tables = tables

    def due_deliveries(self, most: int = 1000) -> dict[tuple[str, str], list[Delivery]]:
        """Returns what is to be sent now, by job and destination."""
        found: dict[tuple[str, str], list[Delivery]] = {}
        rows = self._tables.rows(
            "SELECT job, file, destination, tries FROM delivery WHERE state='waiting' AND due<=? "
            "ORDER BY due, job, destination, file LIMIT ?",
            (time.time(), most),
        )
        for row in rows:
            found.setdefault((row[0], row[2]), []).append(Delivery(*row))
        return found

    def sent(self, delivery: Delivery) -> None:
        """Notes that a file was taken by its destination."""
        self._set_delivery(delivery, "sent", 0.0, "")

    def try_again(self, delivery: Delivery, reason: str, after: float) -> None:
        """Notes that a file could not be sent, and when to try again, in seconds from now."""
        self._set_delivery(delivery, "waiting", time.time() + after, reason)

    def give_up(self, delivery: Delivery, reason: str) -> None:
        """Notes that a file will not be sent."""
        self._set_delivery(delivery, "failed", 0.0, reason)

    def _set_delivery(self, delivery: Delivery, state: str, due: float, reason: str) -> None:
        with self._tables.changing() as database:
            database.execute(
                "UPDATE delivery SET state=?, due=?, reason=?, tries=tries+? WHERE job=? AND file=? AND destination=?",
                (state, due, reason, state != "sent", delivery.job, delivery.file, delivery.destination),
            )
