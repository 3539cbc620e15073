"""Storage commitment (PS3.4, annex J): a sender asks whether what it sent is kept, and is told in an association of its
own."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, build_role

from medseg.errors import MedsegError, reason_of
from medseg.io.dicom.source_series import instance_reference
from medseg.pacs.database import QueueDatabase
from medseg.pacs.destinations import associate
from medseg.pacs.peers import Peer
from medseg.pacs.received import is_uid, token_of

# The one instance of this class, and what can be asked of it and told by it.
PUSH_MODEL, WELL_KNOWN = UID("1.2.840.10008.1.20.1"), UID("1.2.840.10008.1.20.1.1")
REQUEST, ALL_KEPT, SOME_LACK = 1, 1, 2
NO_SUCH_INSTANCE = 0x0112  # FailureReason (PS3.3, C.14-1)


@dataclass(frozen=True)
class CommitmentRequest:
    """What a sender asked.

    Attributes:
        transaction: TransactionUID.
        caller: The AE title of the sender.
        instances: SOPClassUID and SOPInstanceUID of each object.
        tries: How many times the answer could not be sent.
    """

    transaction: str
    caller: str
    instances: tuple[tuple[str, str], ...]
    tries: int = 0

    @classmethod
    def of(cls, asked: Dataset, caller: str) -> "CommitmentRequest | None":
        """Returns what the data set of an N-ACTION asks; None where it is none.

        Args:
            asked: The action's information.
            caller: The AE title of the sender.
        """
        transaction = str(asked.get("TransactionUID", ""))
        items = [
            (str(each.get("ReferencedSOPClassUID", "")), str(each.get("ReferencedSOPInstanceUID", "")))
            for each in asked.get("ReferencedSOPSequence", None) or ()
        ]
        if not items or not all(map(is_uid, (transaction, *(uid for item in items for uid in item)))):
            return None
        return cls(transaction, caller, tuple(items))


class CommitmentQueue:
    """What senders asked and were not told yet.

    Args:
        tables: The database of the queue.
    """

    def __init__(self, tables: QueueDatabase) -> None:
        self._tables = tables

    def ask(self, request: CommitmentRequest) -> None:
        """Notes a request; it is on the disk when this returns."""
        content = "\n".join(uid for instance in request.instances for uid in instance)
        with self._tables.changing() as database:
            database.execute(
                "INSERT OR REPLACE INTO commitment VALUES(?,?,?,0,?)",
                (request.transaction, request.caller, content, time.time()),
            )

    def next_due(self) -> CommitmentRequest | None:
        """Returns what is to be answered now, the oldest first: one alone, so that a sender that has gone does not keep
        results from being sent meanwhile."""
        rows = self._tables.rows(
            "SELECT transaction_uid, caller, instances, tries FROM commitment WHERE due<=? ORDER BY due LIMIT 1",
            (time.time(),),
        )
        for transaction, caller, content, tries in rows:
            uids = content.split("\n")
            return CommitmentRequest(transaction, caller, tuple(zip(uids[::2], uids[1::2], strict=True)), tries)
        return None

    def end(self, request: CommitmentRequest) -> None:
        """Removes a request that was answered, or is given up."""
        with self._tables.changing() as database:
            database.execute("DELETE FROM commitment WHERE transaction_uid=?", (request.transaction,))

    def try_again(self, request: CommitmentRequest, after: float) -> None:
        """Notes that the answer could not be sent, and when to try again, in seconds from now."""
        with self._tables.changing() as database:
            database.execute(
                "UPDATE commitment SET tries=tries+1, due=? WHERE transaction_uid=?",
                (time.time() + after, request.transaction),
            )

    def report(self, request: CommitmentRequest) -> Dataset:
        """Returns what a sender is told: which objects are kept, and which are not here (PS3.4, J.3.3)."""
        kept: list[Dataset] = []
        lacking: list[Dataset] = []
        for class_uid, uid in request.instances:
            item = instance_reference(class_uid, uid)
            if self._tables.rows("SELECT 1 FROM instance WHERE instance=?", (token_of(uid),)):
                kept.append(item)
            else:
                item.FailureReason = NO_SUCH_INSTANCE
                lacking.append(item)
        report = Dataset()
        report.TransactionUID = request.transaction
        if kept:
            report.ReferencedSOPSequence = kept
        if lacking:
            report.FailedSOPSequence = lacking
        return report


def send_report(peer: Peer, report: Dataset, ae_title: str) -> str:
    """Tells a sender what is kept (N-EVENT-REPORT); returns why it was not taken, "" where it was.

    Args:
        peer: The sender.
        report: What ``CommitmentQueue.report`` returned.
        ae_title: Of this side.
    """
    role = build_role(PUSH_MODEL, scu_role=False, scp_role=True)  # who asked stays the user of this service
    event = SOME_LACK if "FailedSOPSequence" in report else ALL_KEPT
    try:
        association = associate(peer, [build_context(PUSH_MODEL)], ae_title, ext_neg=[role])
        try:
            status, _ = association.send_n_event_report(report, event, PUSH_MODEL, WELL_KNOWN)
        finally:
            association.release()
    except (MedsegError, OSError, ValueError, RuntimeError) as error:
        return reason_of(error)
    if "Status" not in status:
        return "the connection was lost, or timed out"
    return "" if status.Status == 0 else f"it was refused with status 0x{status.Status:04X}"


def peer_of(caller: str, peers: Sequence[Peer]) -> Peer | None:
    """Returns where a sender is told what is kept; None where it is not to be told.

    Args:
        caller: Its AE title.
        peers: Those that are.
    """
    return next((peer for peer in peers if peer.title == caller), None)
