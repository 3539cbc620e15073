"""Sends results, again and again with longer waits between, and removes studies that are finished and old."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from medseg.errors import defect, of_the_machine
from medseg.pacs.commitments import CommitmentRequest, peer_of, send_report
from medseg.pacs.deliveries import Delivery
from medseg.pacs.destinations import send_files
from medseg.pacs.listener import free_space
from medseg.pacs.log import tell_event
from medseg.pacs.peers import Peer
from medseg.pacs.queue import StudyQueue
from medseg.pacs.settings import DicomSettings
from medseg.progress import counted

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_BETWEEN_CLEANINGS = 60.0


class ResultSender(threading.Thread):
    """A thread that sends what is due.

    Args:
        queue: Says what is to be sent.
        settings: Where to, and how often it is tried.
    """

    def __init__(self, queue: StudyQueue, settings: DicomSettings) -> None:
        super().__init__(name="results", daemon=True)
        self.queue = queue
        self.settings = settings
        self.peers: Mapping[str, Peer] = {peer.address: peer for peer in settings.send}
        self._is_stopping = threading.Event()
        self._making_room = threading.Lock()

    def stop(self) -> None:
        """Lets the thread end when what is being sent has been answered."""
        self._is_stopping.set()

    def run(self) -> None:
        """Works until ``stop``."""
        cleaned_at = 0.0
        while not self._is_stopping.is_set():
            try:
                is_idle = not self.step()
                if time.monotonic() - cleaned_at > SECONDS_BETWEEN_CLEANINGS:
                    self.remove_old()
                    cleaned_at = time.monotonic()
            except Exception as error:  # of the disk, or a defect: it goes on with the rest
                tell_event("error", of_the_machine(error) or defect(error), level=logging.ERROR)
                is_idle = True
            if is_idle:
                self._is_stopping.wait(SECONDS_BETWEEN_LOOKS)

    def step(self) -> bool:
        """Sends what is due. False where nothing is."""
        due = self.queue.deliveries.due_deliveries()
        for (job, address), deliveries in due.items():
            self._send(job, self.peers.get(address), deliveries)
            if self._is_stopping.is_set():
                break
        asked = self.queue.commitments.next_due()
        if asked is not None:
            self._tell_kept(asked)
        for study in self.queue.finish_studies():
            tell_event("done", f"Study {study}: done", study=study)
        return bool(due) or asked is not None

    def _tell_kept(self, request: CommitmentRequest) -> None:
        """Tells a sender which of its instances are kept."""
        settings, commitments = self.settings, self.queue.commitments
        peer = peer_of(request.caller, settings.commitments)
        reason = "it is not to be told any more"
        if peer is not None:
            reason = send_report(peer, commitments.report(request), settings.ae_title)
        of = counted(len(request.instances), "instance")
        if not reason:
            commitments.end(request)
            tell_event("committed", f"{request.caller} was told what is kept of {of}", to=request.caller)
        elif peer is None or request.tries + 1 >= settings.tries:
            commitments.end(request)
            said = f"{request.caller} could not be told what is kept of {of}: {reason}"
            tell_event("not_committed", said, level=logging.ERROR, to=request.caller, reason=reason)
        else:
            commitments.try_again(request, self._wait(request.tries))

    def _wait(self, tries: int) -> float:
        """Returns the seconds before something is sent again."""
        return float(min(self.settings.longest_wait, self.settings.first_wait * 2**tries))

    def _send(self, job: str, peer: Peer | None, deliveries: Sequence[Delivery]) -> None:
        if peer is None:
            for each in deliveries:
                self.queue.deliveries.give_up(each, "is no destination any more")
            return
        folder = self.queue.results_of(job)
        answers = send_files(peer, [folder / each.file for each in deliveries], self.settings.ae_title)
        failed = 0
        for delivery, answer in zip(deliveries, answers, strict=True):
            if answer.failure:
                self._not_sent(delivery, answer.failure)
                failed += 1
            else:
                self.queue.deliveries.sent(delivery)
        if taken := len(answers) - failed:
            tell_event(
                "sent", f"{counted(taken, 'result')} of job {job} sent to {peer.address}", job=job, to=peer.address
            )

    def _not_sent(self, delivery: Delivery, reason: str) -> None:
        job, address, settings = delivery.job, delivery.destination, self.settings
        said = f"A result of job {job} was not taken by {address}"
        if delivery.tries + 1 >= settings.tries:
            self.queue.deliveries.give_up(delivery, reason)
            tell_event(
                "given_up",
                f"{said}, and is given up: {reason}",
                level=logging.ERROR,
                job=job,
                to=address,
                reason=reason,
            )
            return
        wait = self._wait(delivery.tries)
        self.queue.deliveries.try_again(delivery, reason, wait)
        said = f"{said}, and is sent again in {wait:.0f} s: {reason}"
        tell_event("not_sent", said, level=logging.WARNING, job=job, to=address, reason=reason)

    def remove_old(self) -> None:
        """Removes finished studies that are older than they are to be kept."""
        for study, since in self.queue.finished():
            if time.time() - since > self.settings.keep:
                self.queue.remove(study)
                tell_event("removed", f"Study {study}: removed, it was finished long ago", study=study)

    def make_room(self, size: int) -> str:
        """Removes the oldest finished studies until an instance has place; returns why it has none, or "".

        Args:
            size: Of the instance, in bytes.
        """
        reason = self._lack(size)
        if not reason:
            return ""
        with self._making_room:
            for study, _ in self.queue.finished():
                if not self._lack(size):
                    break
                self.queue.remove(study)
                tell_event("removed", f"Study {study}: removed, its place was needed", study=study)
            return self._lack(size)

    def _lack(self, size: int) -> str:
        if self.settings.max_disk is not None and self.queue.size() + size > self.settings.max_disk:
            return "max_disk is reached, and no study is finished"
        if free_space(self.queue.folder) < self.settings.least_free:
            return "the disk is full"
        return ""
