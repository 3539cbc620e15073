"""The DICOM service: listener, worker and sender around one queue."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from medseg.errors import MedsegError
from medseg.pacs.deaths import LAST_TRACE
from medseg.pacs.listener import Listener, free_space
from medseg.pacs.log import logged_into, reason_without_names, tell_event
from medseg.pacs.queue import StudyQueue
from medseg.pacs.sender import ResultSender
from medseg.pacs.settings import DicomSettings
from medseg.pacs.worker import OnDevice, StudyWorker
from medseg.progress import counted
from medseg.serve.models import ServedModel

SECONDS_BETWEEN_COUNTS = 5.0


class DicomService:
    """Receives studies at a DICOM port, predicts what fits a model, and sends the results.

    Args:
        models: By name.
        settings: Of the site.
        on_device: Runs a function when the device is free; None: in a thread of its own.

    Raises:
        OutputError: The folder of the queue cannot be used.
    """

    def __init__(
        self, models: Mapping[str, ServedModel], settings: DicomSettings, on_device: OnDevice | None = None
    ) -> None:
        self.settings = settings
        self.queue = StudyQueue(settings.queue)
        self.sender = ResultSender(self.queue, settings)
        self.listener = Listener(self.queue, settings, self.sender.make_room)
        counts = None if settings.count_at is None else ArchiveCounts(settings)
        run = on_device or ThreadPoolExecutor(1, "device").submit
        self.worker = StudyWorker(self.queue, models, settings, run, counts)

    def start(self) -> None:
        """Begins to work; raises as ``Listener.start`` does."""
        self.listener.start()
        self.worker.start()
        self.sender.start()
        waiting = self.queue.counts()["job"].get("waiting", 0)
        more = f"; {counted(waiting, 'case')} of before are waiting" if waiting else ""
        for death in self.queue.last_deaths:
            how = f"crashed ({LAST_TRACE} says where)" if death.is_crash else "was ended"
            said = f"medseg {how} while it worked on {death.work}"
            tell_event("died", said, level=logging.WARNING, work=death.work, is_crash=str(death.is_crash).lower())
        at = f"{self.settings.ae_title} at port {self.listener.port} of {self.settings.host}"
        tell_event("started", f"DICOM: {at}{more}", port=self.listener.port, waiting=waiting)

    def stop(self) -> None:
        """Ends: takes nothing more, finishes the case and the sending that are under way, and keeps all else."""
        self.queue.deaths.excuse()
        self.worker.stop()
        self.sender.stop()
        self.listener.stop()
        if self.worker.under_way is not None:
            tell_event("ending", f"Finishing job {self.worker.under_way.name}; a second signal hands it back")
        self.worker.join()
        self.sender.join()
        self.queue.close()
        tell_event("ended", "DICOM: ended")

    def hand_back(self) -> None:
        """Ends the process at once; the case that is under way is predicted at the next start."""
        job = self.worker.under_way
        self.queue.deaths.excuse()
        if job is not None:
            self.queue.jobs.hand_back(job.name)
            tell_event("handed_back", f"Job {job.name} is handed back", job=job.name)
        os._exit(0)

    @property
    def faults(self) -> list[str]:
        """Why studies cannot be taken or worked on now; none where all is well."""
        faults = []
        if not self.listener.is_listening:
            faults.append("the DICOM port is closed")
        if not self.worker.is_alive():
            faults.append("the worker has ended")
        if not self.sender.is_alive():
            faults.append("the sender has ended")
        if free_space(self.queue.folder) < self.settings.least_free:
            faults.append("the disk is full")
        return faults

    def status(self) -> dict[str, Any]:
        """Returns counts by state, and the last studies, by their names in the queue."""
        job = self.worker.under_way
        return {
            "ready": not self.faults,
            "faults": self.faults,
            "under_way": None if job is None else {"job": job.name, "study": job.study, "model": job.model},
            "counts": self.queue.counts(),
            "studies": self.queue.entries(),
        }


class ArchiveCounts:
    """Asks an archive how many instances a study has, now and then.

    Args:
        settings: Say which.
    """

    def __init__(self, settings: DicomSettings) -> None:
        self.settings = settings
        self._asked: dict[str, tuple[float, int | None]] = {}

    def __call__(self, uid: str) -> int | None:
        """Returns the number; None where the archive does not say it."""
        from medseg.pacs.remote import count_instances

        asked_at, count = self._asked.get(uid, (-SECONDS_BETWEEN_COUNTS, None))
        if time.monotonic() - asked_at < SECONDS_BETWEEN_COUNTS or self.settings.count_at is None:
            return count
        try:
            count = count_instances(self.settings.count_at, uid, self.settings.ae_title)
        except MedsegError as error:
            tell_event(
                "not_counted",
                f"The archive does not say how many instances a study has: {reason_without_names(error, ())}",
            )
            count = None
        self._asked = {**dict(list(self._asked.items())[-100:]), uid: (time.monotonic(), count)}
        return count


@contextmanager
def ended_by_signals(service: DicomService) -> Iterator[None]:
    """Lets the first SIGTERM or Ctrl-C within the block end it in order, and a second one hand back what is under way.

    Args:
        service: That runs in the block.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    n_signals = 0

    def end(_signal: int, _frame: object) -> None:
        nonlocal n_signals
        n_signals += 1
        if n_signals > 1:
            service.hand_back()

    before = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def running_service(
    models: Mapping[str, ServedModel],
    settings: DicomSettings,
    on_device: OnDevice | None = None,
    by_signals: bool = False,
) -> Iterator[DicomService]:
    """Runs a service within the block; at its end what is under way is finished.

    Args:
        models: By name.
        settings: Of the site.
        on_device: Runs a function when the device is free; None: in a thread of its own.
        by_signals: Whether the process is for the service alone: a second SIGTERM or Ctrl-C hands back what is under
            way, as in ``ended_by_signals``, and a crash leaves its trace.

    Raises:
        MedsegError: The port or the folder of the queue cannot be used.
    """
    with ExitStack() as stack:
        service = DicomService(models, settings, on_device)
        stack.enter_context(logged_into(service.queue.folder))
        if by_signals:
            stack.enter_context(ended_by_signals(service))
            stack.enter_context(service.queue.deaths.tracing())
        try:
            service.start()
            yield service
        finally:
            if service.worker.ident is not None:
                service.stop()
