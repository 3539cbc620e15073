"""DICOMweb: finds (QIDO-RS), fetches (WADO-RS) and stores (STOW-RS) instances, one at a time."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread
from requests.exceptions import RequestException

from medseg.errors import SourceError, reason_of
from medseg.pacs.peers import Peer
from medseg.pacs.received import is_uid

SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 15, 120
PAGE = 1000  # entries that are asked for at once
Uids = tuple[str, str, str]  # of study, series and instance
Keep = Callable[[Uids, Callable[[BinaryIO], object]], None]

MOST_FAILURES = 3  # in a row, before a server is left alone
READ_AT_ONCE = 2**20  # bytes
LARGEST_INSTANCE = 2**34  # bytes
LONGEST_PART_HEADER = 2**14  # bytes
RAW = 'multipart/related; type="application/dicom"; transfer-syntax=*'  # as it is stored


class WebClient:
    """Speaks DICOMweb with one server.

    Args:
        peer: Its base address, with the files of token and TLS.

    Raises:
        ConfigError: A file cannot be used.
    """

    def __init__(self, peer: Peer) -> None:
        self.address = peer.address.rstrip("/")
        session = requests.Session()
        token = peer.token()
        if ":" in token:
            name, _, password = token.partition(":")
            session.auth = (name, password)
        elif token:
            session.headers["Authorization"] = f"Bearer {token}"
        if peer.ca is not None:
            session.verify = str(peer.ca)
        if peer.certificate is not None and peer.key is not None:
            session.cert = (str(peer.certificate), str(peer.key))
        self._session = session
        self._client = DICOMwebClient(self.address, session)
        self._client.set_http_retry_params(retry=False)

    def studies(self, query: Mapping[str, str]) -> list[str]:
        """Returns the UIDs of the studies that a query finds.

        Args:
            query: Values by keyword: ``{"PatientID": "P1", "ModalitiesInStudy": "CT"}``.

        Raises:
            SourceError: The server does not answer, or refuses.
        """
        return list(self._found(self._client.search_for_studies, "StudyInstanceUID", search_filters=dict(query)))

    def series(self, study: str, query: Mapping[str, str]) -> list[str]:
        """Returns the UIDs of the series of a study that a query finds; raises as ``studies`` does."""
        search = self._client.search_for_series
        return list(self._found(search, "SeriesInstanceUID", study_instance_uid=study, search_filters=dict(query)))

    def instances(self, study: str, series: str) -> list[str]:
        """Returns the UIDs of the instances of a series; raises as ``studies`` does."""
        search = self._client.search_for_instances
        return list(self._found(search, "SOPInstanceUID", study_instance_uid=study, series_instance_uid=series))

    def fetch_all(self, study: str, series: str, instances: Sequence[str], keep: Keep) -> None:
        """Fetches instances of a series, one after the other.

        Args:
            study: Its UID.
            series: Its UID.
            instances: Their UIDs.
            keep: Gets the UIDs of each instance, and what writes its file.

        Raises:
            SourceError: The last error; the other instances are kept, unless several in a row could not be had.
        """
        in_a_row, last = 0, None
        for instance in instances:
            uids = (study, series, instance)
            try:
                keep(uids, partial(self.fetch, uids))
                in_a_row = 0
            except SourceError as error:
                in_a_row, last = in_a_row + 1, error
                if in_a_row >= MOST_FAILURES:
                    break
        if last is not None:
            raise last

    def fetch(self, uids: Uids, file: BinaryIO) -> None:
        """Writes one instance as the server stores it; memory holds a part of it only.

        Args:
            uids: Of study, series and instance.
            file: Where it is written.

        Raises:
            SourceError: The server does not answer, refuses, or sends something else.
        """
        study, series, instance = uids
        url = f"{self.address}/studies/{study}/series/{series}/instances/{instance}"
        timeout = (SECONDS_TO_CONNECT, SECONDS_TO_ANSWER)
        try:
            with self._session.get(url, headers={"Accept": RAW}, stream=True, timeout=timeout) as response:
                response.raise_for_status()
                chunks = _limited(response.iter_content(READ_AT_ONCE))
                kind = response.headers.get("Content-Type", "")
                for chunk in _first_part(chunks, _boundary(kind)) if "multipart" in kind.lower() else chunks:
                    file.write(chunk)
        except RequestException as error:
            raise SourceError(f"{self.address}: {_reason(error)}") from error
        except ValueError as error:
            raise SourceError(f"{self.address}: {error}") from error

    def store(self, path: Path) -> str:
        """Stores one instance; returns why it was not taken, or ""."""
        dataset = dcmread(path)
        try:
            answer = self._client.store_instances([dataset])
        except (RequestException, ValueError) as error:
            return _reason(error)
        return _failure(answer, str(dataset.SOPInstanceUID))

    def _found(self, search: Any, keyword: str, **arguments: Any) -> Iterator[str]:
        """Yields the UIDs that a search finds, page by page."""
        tag = DICOMwebClient.lookup_tag(keyword)
        seen: set[str] = set()
        while True:
            try:
                page = search(limit=PAGE, offset=len(seen), **arguments)
            except (RequestException, ValueError, KeyError, TypeError) as error:
                raise SourceError(f"{self.address}: {_reason(error)}") from error
            uids = [str((entry.get(tag, {}).get("Value") or [""])[0]) for entry in page]
            new = [uid for uid in dict.fromkeys(uids) if is_uid(uid) and uid not in seen]
            yield from new
            seen.update(new)
            if len(page) < PAGE or not new:  # a server without pages gives all at once, again and again
                return


def _failure(answer: Dataset, uid: str) -> str:
    """Returns why the answer to STOW-RS says that an instance was not stored (PS3.18, 10.5.3)."""
    for failed in answer.get("FailedSOPSequence") or ():
        return f"it was refused with reason 0x{int(failed.get('FailureReason') or 0):04X}"
    stored = {str(each.get("ReferencedSOPInstanceUID")) for each in answer.get("ReferencedSOPSequence") or ()}
    return "" if uid in stored else "the server does not say that it stored it"


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        hint = {401: "; give a token", 403: "; give another token", 404: "; is there such a study"}
        return f"answers with status {response.status_code}{hint.get(response.status_code, '')}"
    if isinstance(error, RequestException):
        return f"cannot be reached ({type(error).__name__})"
    return f"is not understood ({reason_of(error)})"


def _limited(chunks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LARGEST_INSTANCE:
            raise ValueError(f"sends more than {LARGEST_INSTANCE:,} bytes for one instance")
        yield chunk


def _boundary(kind: str) -> bytes:
    found = re.search(r'boundary="?([^";,]{1,200})"?', kind, re.IGNORECASE)
    if found is None:
        raise ValueError("sends several parts without a boundary between them")
    return b"--" + found[1].strip().encode("latin-1", "replace")


def _first_part(chunks: Iterator[bytes], boundary: bytes) -> Iterator[bytes]:
    """Yields the content of the first part of a multipart body (RFC 2046)."""
    start = b""
    while b"\r\n\r\n" not in start:
        chunk = next(chunks, b"")
        start += chunk
        if not chunk or len(start) > LONGEST_PART_HEADER + READ_AT_ONCE:
            raise ValueError("sends no part of a multipart answer")
    rest = start.partition(b"\r\n\r\n")[2]
    end = b"\r\n" + boundary
    while end not in rest:
        kept = len(end) - 1
        if len(rest) > kept:
            yield rest[:-kept]
            rest = rest[-kept:]
        chunk = next(chunks, b"")
        if not chunk:
            raise ValueError("the answer ends in the middle")
        rest += chunk
    yield rest.partition(end)[0]
