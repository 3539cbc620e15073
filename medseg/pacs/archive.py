"""DICOM's own query and retrieve: finds instances (C-FIND), and fetches them (C-GET, or C-MOVE to an own port)."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, build_context, build_role, evt

from medseg.errors import OutputError, SourceError
from medseg.pacs.destinations import associate
from medseg.pacs.dicomweb import Keep
from medseg.pacs.peers import Peer
from medseg.pacs.received import is_uid

# Study Root (PS3.4, C.6.2).
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
PENDING = (0xFF00, 0xFF01)
LOST = "the connection was lost, or timed out"

MOST_AT_ONCE = 100  # instances that one C-GET or C-MOVE asks for

# Transfer syntaxes that instances may come in by C-GET. The archive accepts one of each group, so that it need not
# decompress what it has.
SYNTAXES = (
    (ExplicitVRLittleEndian, ImplicitVRLittleEndian), (DeflatedExplicitVRLittleEndian,), (ExplicitVRBigEndian,),
    (RLELossless,), (JPEGBaseline8Bit,), (JPEGExtended12Bit,), (JPEGLossless,), (JPEGLosslessSV1,), (JPEGLSLossless,),
    (JPEGLSNearLossless,), (JPEG2000Lossless,), (JPEG2000,), (HTJ2KLossless,), (HTJ2K,),
)  # fmt: skip


class ArchiveClient:
    """Asks an archive by DICOM.

    Args:
        peer: Its AE title, host and port.
        ae_title: Of this side.
        move_port: Where instances come to by C-MOVE, which the archive has to know by the AE title; None: they are
            fetched by C-GET.
    """

    def __init__(self, peer: Peer, ae_title: str = "MEDSEG", move_port: int | None = None) -> None:
        self.peer = peer
        self.ae_title = ae_title
        self.move_port = move_port

    def studies(self, query: Mapping[str, str]) -> list[str]:
        """Returns the UIDs of the studies that a query finds.

        Args:
            query: Values by keyword.

        Raises:
            ConfigError: The archive cannot be reached.
            SourceError: It refuses.
        """
        found = self._find("STUDY", {**query, "StudyInstanceUID": query.get("StudyInstanceUID", "")})
        return _uids(found, "StudyInstanceUID")

    def series(self, study: str, query: Mapping[str, str]) -> list[str]:
        """Returns the UIDs of the series of a study that a query finds; raises as ``studies`` does."""
        asked = {**query, "StudyInstanceUID": study, "SeriesInstanceUID": query.get("SeriesInstanceUID", "")}
        return _uids(self._find("SERIES", asked), "SeriesInstanceUID")

    def instances(self, study: str, series: str) -> list[str]:
        """Returns the UIDs of the instances of a series; raises as ``studies`` does."""
        return list(self._classes(study, series))

    def fetch_all(self, study: str, series: str, instances: Sequence[str], keep: Keep) -> None:
        """Lets the archive send instances of a series.

        Args:
            study: Its UID.
            series: Its UID.
            instances: Their UIDs.
            keep: Gets the UIDs of each instance, and what writes its file.

        Raises:
            ConfigError: The archive cannot be reached.
            SourceError: It refuses.
            OutputError: The port that instances are to come to is taken.
        """
        of_class: dict[str, list[str]] = defaultdict(list)
        every = self._classes(study, series) if instances else {}
        for uid in instances:
            of_class[every.get(uid, "")].append(uid)
        for sop_class, uids in of_class.items():
            for at in range(0, len(uids), MOST_AT_ONCE):
                several = "\\".join(uids[at : at + MOST_AT_ONCE])
                asked = _identifier(
                    "IMAGE", {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": several}
                )
                if self.move_port is not None:
                    self._move(asked, keep)
                elif sop_class:
                    self._get(asked, sop_class, keep)

    def _classes(self, study: str, series: str) -> dict[str, str]:
        """Returns the classes of the instances of a series, by their UIDs."""
        asked = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": "", "SOPClassUID": ""}
        found = {
            str(each.get("SOPInstanceUID", "")): str(each.get("SOPClassUID", "")) for each in self._find("IMAGE", asked)
        }
        return {uid: sop_class for uid, sop_class in found.items() if is_uid(uid)}

    def _find(self, level: str, query: Mapping[str, str]) -> list[Dataset]:
        association = associate(self.peer, [build_context(FIND)], self.ae_title)
        try:
            answers = list(association.send_c_find(_identifier(level, query), FIND))
        except ValueError as error:
            raise SourceError(f"{self.peer.address}: does not answer queries (C-FIND)") from error
        finally:
            association.release()
        self._check(answers, "C-FIND")
        return [found for _, found in answers if found is not None]

    def _get(self, asked: Dataset, sop_class: str, keep: Keep) -> None:
        contexts = [build_context(GET), *(build_context(sop_class, list(syntaxes)) for syntaxes in SYNTAXES)]
        roles = [build_role(sop_class, scp_role=True)]
        kept = _Kept(keep)
        association = associate(
            self.peer, contexts, self.ae_title, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, kept.store)]
        )
        try:
            answers = list(association.send_c_get(asked, GET))
        except ValueError as error:
            raise SourceError(f"{self.peer.address}: gives no images by C-GET; try --move-port") from error
        finally:
            association.release()
        self._check(answers, "C-GET", kept)

    def _move(self, asked: Dataset, keep: Keep) -> None:
        kept = _Kept(keep)
        with self._listening(kept):
            association = associate(self.peer, [build_context(MOVE)], self.ae_title)
            try:
                answers = list(association.send_c_move(asked, self.ae_title, MOVE))
            except ValueError as error:
                raise SourceError(f"{self.peer.address}: moves no images (C-MOVE)") from error
            finally:
                association.release()
        self._check(answers, "C-MOVE", kept)

    @contextmanager
    def _listening(self, kept: "_Kept") -> Iterator[None]:
        ae = AE(ae_title=self.ae_title)
        ae.supported_contexts = [
            build_context(str(each.abstract_syntax), _syntaxes()) for each in AllStoragePresentationContexts
        ]
        try:
            server: Any = ae.start_server(
                ("", self.move_port or 0), block=False, evt_handlers=[(evt.EVT_C_STORE, kept.store)]
            )
        except OSError as error:
            raise OutputError(
                f"port {self.move_port}: cannot be used ({error.strerror}); choose another one"
            ) from error
        try:
            yield
        finally:
            server.shutdown()

    def _check(self, answers: Sequence[tuple[Dataset, Any]], what: str, kept: "_Kept | None" = None) -> None:
        if kept is not None and kept.error is not None:
            raise kept.error
        last = answers[-1][0] if answers else Dataset()
        if "Status" not in last:
            raise SourceError(f"{self.peer.address}: {LOST} during {what}")
        if last.Status not in (0x0000, *PENDING):
            comment = str(last.get("ErrorComment", ""))[:64]
            hint = "; does it know this AE title and its port" if what == "C-MOVE" and last.Status == 0xA801 else ""
            said = f" ({comment})" if comment else ""
            raise SourceError(f"{self.peer.address}: {what} ended with status 0x{last.Status:04X}{said}{hint}")


class _Kept:
    """Keeps instances that an archive sends, and the first error about it."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self.error: Exception | None = None
        self._lock = threading.Lock()

    def store(self, event: Any) -> int:
        with self._lock:
            try:
                dataset = event.dataset
                uids = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
                if not all(map(is_uid, uids)):
                    return 0xC000
                content = event.encoded_dataset()
                self.keep(uids, lambda file: file.write(content))
            except Exception as error:  # of the disk, or of a damaged object; the caller raises it
                self.error = self.error or error
                return 0xA700
        return 0x0000


def _identifier(level: str, query: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in query.items():
        setattr(identifier, keyword, value.split("\\") if "\\" in value else value)
    return identifier


def _uids(found: Sequence[Dataset], keyword: str) -> list[str]:
    return list(dict.fromkeys(str(each.get(keyword, "")) for each in found if is_uid(str(each.get(keyword, "")))))


def _syntaxes() -> list[str]:
    from pynetdicom import ALL_TRANSFER_SYNTAXES

    return list(ALL_TRANSFER_SYNTAXES)
