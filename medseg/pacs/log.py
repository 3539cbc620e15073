"""What is logged beside a PACS: events with numbers and names of the queue, and nothing that identifies a patient."""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path

from pydicom import config

from medseg.errors import MedsegError, SourceError, printable
from medseg.files import json_text
from medseg.io.dicom.files import read_header
from medseg.io.dicom.header import Header

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"
LARGEST_LOG, KEPT_LOGS = 2**23, 5  # bytes; files that are kept beside the one that is written

# Of these elements, values that stand in a message are left out of it: they may name the patient or the study.
IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID",
    "FrameOfReferenceUID", "SeriesDescription", "StudyDescription", "StudyDate", "AccessionNumber",
)  # fmt: skip
SHORTEST = 3  # characters of a name that is left out by itself: shorter ones are parts of any word
UID = re.compile(r"\b[0-2](?:\.(?:0|[1-9][0-9]*)){4,}\b")

_OF_A_PATIENT: ContextVar[bool] = ContextVar("of_a_patient", default=False)


def tell_event(event: str, message: str, *, level: int = logging.INFO, **facts: str | float) -> None:
    """Logs an event: a line on the console, and an object of the JSON log.

    Args:
        event: Its name in the JSON log: "predicted".
        message: For people. It names studies as the queue does.
        level: Of ``logging``.
        facts: Beside the message, in the JSON log only.
    """
    logger.log(level, message, extra={"event": event, "facts": facts})


@contextmanager
def of_a_patient() -> Iterator[None]:
    """Lets nothing of the block be logged but events: what readers say of a file may name the patient."""
    token = _OF_A_PATIENT.set(True)
    try:
        yield
    finally:
        _OF_A_PATIENT.reset(token)


class NoPatients(logging.Filter):
    """Drops from a handler what is said about a patient's images, except for events."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Says whether a record is handled."""
        return hasattr(record, "event") or not _OF_A_PATIENT.get()


class JsonLines(logging.Formatter):
    """Makes an event a line of JSON: time (UTC), level, event, message, and facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of one record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": getattr(record, "event", ""),
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        return json_text(content, None)


@contextmanager
def logged_into(folder: Path) -> Iterator[Path]:
    """Writes the events of the block to ``log.jsonl`` in a folder, and keeps patients out of all other logs.

    Args:
        folder: Of the queue. A log that has grown to 8 MiB is renamed to ``log.jsonl.1``, and so on to 5.
    """
    file = folder / LOG_FILE
    handler = RotatingFileHandler(file, maxBytes=LARGEST_LOG, backupCount=KEPT_LOGS, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines())
    above, no_patients = logging.getLogger("medseg"), NoPatients()
    others = list(above.handlers)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for each in others:
        each.addFilter(no_patients)
    try:
        yield file
    finally:
        for each in others:
            each.removeFilter(no_patients)
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


def reason_without_names(error: MedsegError | str, files: Sequence[Path]) -> str:
    """Returns the text of an error without what the headers of files say of patient and study, and without UIDs.

    Args:
        error: What a reader, or the model, says.
        files: Of the study; one of each series is enough.
    """
    text = str(error)
    for value in sorted({value for file in files for value in _identifying(file)}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "…", text, flags=re.IGNORECASE)
    return printable(UID.sub("…", text))


def _identifying(file: Path) -> Iterator[str]:
    try:
        with config.disable_value_validation():
            header: Header = read_header(file)
            texts = [text for keyword in IDENTIFYING for text in _texts(header, keyword)]
    except Exception:  # pydicom raises many kinds on damaged files, of which nothing can be said
        return
    for text in texts:
        yield from (each for each in (text, *re.split(r"[\^= ,]+", text)) if len(each) >= SHORTEST)


def _texts(header: Header, keyword: str) -> list[str]:
    try:
        return header.texts(keyword)
    except SourceError:
        return []
