"""A DICOM listener: takes instances (C-STORE) and acknowledges each when it is on the disk."""

import logging
import os
import shutil
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pynetdicom
from pydicom import config, dcmread
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context, dimse_messages, evt

from medseg.errors import ConfigError, OutputError
from medseg.io.dicom.header import Header
from medseg.pacs.commitments import PUSH_MODEL, REQUEST, CommitmentRequest, peer_of
from medseg.pacs.log import tell_event
from medseg.pacs.queue import RECEIVING, StudyQueue
from medseg.pacs.received import Instance, is_uid, token_of
from medseg.pacs.settings import DicomSettings

VERIFICATION = "1.2.840.10008.1.1"  # the class of C-ECHO

# Statuses of C-STORE (PS3.4, B.2.3).
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
# Of N-ACTION (PS3.7, annex C).
CANNOT_PROCESS, INVALID_ARGUMENT, NOT_AUTHORIZED = 0x0110, 0x0115, 0x0124
KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
SECONDS_OF_SILENCE = 60.0  # after which an association that is in the middle of something is aborted
SECONDS_IDLE = 600.0
SECONDS_TO_END = 10.0  # that associations have when the listener stops
LARGEST_PDU = 2**17  # bytes


class ReceivedFile:
    """The temporary file of one instance, as pynetdicom asks for it; a disk that is full does not end it.

    Args:
        folder: Where it is made.
        largest: Bytes that it may have.
    """

    def __init__(self, folder: Path, largest: int) -> None:
        descriptor, self.name = tempfile.mkstemp(".dcm", dir=folder)
        self.file = os.fdopen(descriptor, "wb")
        self.largest = largest
        self.failure = ""
        self._size = 0

    def write(self, content: bytes) -> int:
        """Appends to the file, or drops what has no place any more: the answer to the sender will say so."""
        self._size += len(content)
        if self._size > self.largest:
            self.failure = "the instance is larger than max_instance"
        if not self.failure:
            try:
                self.file.write(content)
            except OSError as error:
                self.failure = error.strerror or "it cannot be written"
        return len(content)

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        try:
            self.file.flush()
        except OSError as error:
            self.failure = error.strerror or "it cannot be written"

    def close(self) -> None:
        """Closes the file."""
        try:
            self.file.close()
        except OSError as error:
            self.failure = error.strerror or "it cannot be written"


class Listener:
    """Listens at a DICOM port, for C-ECHO, C-STORE of all storage classes in all transfer syntaxes, and N-ACTION.

    An instance is acknowledged (0x0000) after its file, the folders above it, and its row in the queue are flushed.
    Where that cannot be, the answer is 0xA700 (out of resources): its sender keeps it, and sends it again.

    Args:
        queue: Gets what comes.
        settings: Of the port, and of who may send.
        make_room: Removes what is no longer needed; it says why an instance cannot be taken, or "".
    """

    def __init__(self, queue: StudyQueue, settings: DicomSettings, make_room: Callable[[int], str]) -> None:
        self.queue = queue
        self.settings = settings
        self.make_room = make_room
        self._server: Any = None

    @property
    def port(self) -> int:
        """The TCP port that is listened at: a free one where 0 was asked for."""
        return int(self._server.server_address[1])

    @property
    def is_listening(self) -> bool:
        """Whether the port is open, and associations are taken."""
        return self._server is not None

    def start(self) -> None:
        """Begins to listen.

        Raises:
            OutputError: The port is taken.
            ConfigError: The files of TLS cannot be used.
        """
        settings = self.settings
        _receive_into(self.queue.folder / RECEIVING, settings.max_instance)
        ae = AE(ae_title=settings.ae_title)
        committing = [build_context(PUSH_MODEL)] if settings.commitments else []
        ae.supported_contexts = [build_context(VERIFICATION), *committing, *_storage_contexts()]
        # Of classes that pynetdicom does not know, private ones among them, too.
        pynetdicom._config.UNRESTRICTED_STORAGE_SERVICE = True
        ae.maximum_associations = settings.max_associations
        ae.maximum_pdu_size = LARGEST_PDU
        ae.network_timeout, ae.dimse_timeout, ae.acse_timeout = SECONDS_IDLE, SECONDS_OF_SILENCE, 30.0
        ae.require_called_aet = not settings.any_called_title
        handlers: Any = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_N_ACTION, self._commit),
        ]
        context = tls_of_server(settings)
        try:
            self._server = ae.start_server(
                (settings.host, settings.port), block=False, ssl_context=context, evt_handlers=handlers
            )
        except OSError as error:
            raise OutputError(
                f"port {settings.port} of {settings.host} cannot be used ({error.strerror}); choose another --dicom"
            ) from error

    def stop(self) -> None:
        """Takes no more associations, and ends those that are open; what was acknowledged is in the queue."""
        if self._server is None:
            return
        ae = self._server.ae
        self._server.shutdown()  # the port is closed
        self._server = None
        until = time.monotonic() + SECONDS_TO_END
        while any(each.is_acceptor for each in ae.active_associations) and time.monotonic() < until:
            time.sleep(0.05)
        ae.shutdown()

    def _admit(self, event: Any) -> None:
        """Rejects an association of somebody who may not send."""
        requestor = event.assoc.requestor
        title, address = str(requestor.primitive.calling_ae_title).strip(), str(requestor.address)
        callers = self.settings.callers
        if callers and not any(caller.lets_in(title, address) for caller in callers):
            said = f"An association of {title[:16]!r} at {address} is refused: it is no caller that may send"
            tell_event("refused", said, level=logging.WARNING, address=address)
            event.assoc.acse.send_reject(0x01, 0x01, 0x03)  # permanent, by the user: calling AE title not known
            event.assoc.kill()

    def _store(self, event: Any) -> int:
        """Puts one instance into the queue; returns the status that its sender gets."""
        received = event.request._dataset_file
        try:
            return self._kept(event, received)
        except OSError as error:
            return _refused(f"it cannot be written ({error.strerror})")
        except Exception as error:  # the database's, when the disk is full, among them
            return _refused(f"it cannot be kept ({type(error).__name__})")

    def _commit(self, event: Any) -> tuple[int, None]:
        """Notes that a sender wants to know whether instances are kept; returns the status that it gets."""
        caller = str(event.assoc.requestor.ae_title).strip()
        if peer_of(caller, self.settings.commitments) is None:
            return NOT_AUTHORIZED, None
        try:
            request = CommitmentRequest.of(event.action_information, caller)
            if request is None or event.action_type != REQUEST:
                return INVALID_ARGUMENT, None
            self.queue.commitments.ask(request)
        except Exception as error:  # of the disk, or of what pydicom cannot read
            tell_event("refused", f"A question whether instances are kept is refused ({type(error).__name__})")
            return CANNOT_PROCESS, None
        return SUCCESS, None

    def _kept(self, event: Any, received: ReceivedFile) -> int:
        received.close()
        path = Path(received.name)
        if received.failure:
            return _refused(received.failure)
        size = path.stat().st_size
        if reason := self.make_room(size):
            return _refused(reason)
        uids = _uids_of(path)
        if uids is None or uids["SOPInstanceUID"] != str(event.request.AffectedSOPInstanceUID):
            tell_event(
                "refused",
                "An instance is refused: its study, series or own UID is missing or wrong",
                level=logging.WARNING,
            )
            return CANNOT_UNDERSTAND
        instance = Instance(*(token_of(uids[keyword]) for keyword in KEYWORDS))
        caller = str(event.assoc.requestor.ae_title).strip()
        self.queue.received.take(path, instance, uids["StudyInstanceUID"], caller)
        return SUCCESS


def tls_of_server(settings: DicomSettings) -> ssl.SSLContext | None:
    """Returns what TLS needs; None where DICOM is spoken in the clear.

    Raises:
        ConfigError: A file cannot be used.
    """
    if settings.certificate is None or settings.key is None:
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(settings.certificate, settings.key, password="")
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise ConfigError(
            f"certificate {settings.certificate}, key {settings.key}: cannot be used ({reason})"
        ) from error
    return context


def free_space(folder: Path) -> int:
    """Returns the bytes that are free on the disk of a folder."""
    return shutil.disk_usage(folder).free


def _storage_contexts() -> list[Any]:
    """Returns what is accepted: all storage classes, each in any transfer syntax."""
    syntaxes = list(dict.fromkeys([*ALL_TRANSFER_SYNTAXES, *AllTransferSyntaxes]))
    return [build_context(str(each.abstract_syntax), syntaxes) for each in AllStoragePresentationContexts]


def _receive_into(folder: Path, largest: int) -> None:
    """Lets pynetdicom write instances into a folder while they come, so that memory never holds a whole one.

    It has no setting for where, nor for how large they may be.
    """
    pynetdicom._config.STORE_RECV_CHUNKED_DATASET = True
    dimse_messages.NamedTemporaryFile = lambda **_: ReceivedFile(folder, largest)  # type: ignore


def _uids_of(path: Path) -> Mapping[str, str] | None:
    """Returns the UIDs of a file by keyword; None where one is missing, or none."""
    with config.disable_value_validation():
        try:
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS))
            header = Header(path, dataset)
            uids = {keyword: header.text(keyword) for keyword in KEYWORDS}
        except Exception:  # pydicom raises many kinds on damaged files
            return None
    return uids if all(is_uid(uid) for uid in uids.values()) else None


def _refused(reason: str) -> int:
    tell_event(
        "refused", f"An instance is refused, its sender is to keep it: {reason}", level=logging.WARNING, reason=reason
    )
    return OUT_OF_RESOURCES
