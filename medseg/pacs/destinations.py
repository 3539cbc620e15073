"""Sends files of results: by C-STORE, by DICOMweb's STOW-RS, or into a folder. Each answer is checked."""

import shutil
import ssl
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.errors import ConfigError, MedsegError, reason_of
from medseg.files import written_whole
from medseg.io.dicom.segmentation_objects import LABEL_MAP_STORAGE
from medseg.pacs.peers import Peer
from medseg.pacs.received import flush

SECONDS_TO_CONNECT = 15.0
SECONDS_TO_ANSWER = 120.0
LARGEST_PDU = 2**17  # bytes
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))

# Statuses of C-STORE that say the object was taken (PS3.4, B.2.3): success, and warnings.
TAKEN = (0x0000, 0xB000, 0xB006, 0xB007, 0x0001, 0x0107, 0x0116)


class Answer(NamedTuple):
    """What a destination says of a file.

    Attributes:
        file: Its path.
        failure: Why it was not taken; "" where it was.
    """

    file: Path
    failure: str


def send_files(peer: Peer, files: Sequence[Path], ae_title: str = "MEDSEG") -> list[Answer]:
    """Sends files to a peer, and returns what it says of each.

    Args:
        peer: Where they go.
        files: DICOM objects.
        ae_title: Of this side.
    """
    try:
        if peer.kind == "dicom":
            return _stored_by_dicom(peer, files, ae_title)
        return _stored_by_web(peer, files) if peer.kind == "web" else _copied(Path(peer.address), files)
    except (MedsegError, OSError) as error:
        return [Answer(file, reason_of(error)) for file in files]


def tls_of_client(peer: Peer) -> ssl.SSLContext:
    """Returns what a connection to a peer by TLS needs.

    Raises:
        ConfigError: A file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=None if peer.ca is None else str(peer.ca))
        if peer.certificate is not None and peer.key is not None:
            context.load_cert_chain(peer.certificate, peer.key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{peer.address}: its files of TLS cannot be used ({error.strerror or error})") from error
    return context


def associate(peer: Peer, contexts: Sequence[Any], ae_title: str, **more: Any) -> Any:
    """Returns an association with a peer.

    Args:
        peer: A program that speaks DICOM.
        contexts: Presentation contexts that are asked for.
        ae_title: Of this side.
        more: Of pynetdicom's ``associate``.

    Raises:
        ConfigError: It cannot be reached, or lets nobody of this AE title in.
    """
    from pynetdicom import AE

    ae = AE(ae_title=ae_title)
    ae.acse_timeout = ae.connection_timeout = SECONDS_TO_CONNECT
    ae.dimse_timeout = ae.network_timeout = SECONDS_TO_ANSWER
    tls = (tls_of_client(peer), peer.host) if peer.in_tls else None
    association = ae.associate(
        peer.host, peer.port, list(contexts), peer.title, max_pdu=LARGEST_PDU, tls_args=tls, **more
    )
    if not association.is_established and association.rejected_contexts:
        kinds = {_class_name(each.abstract_syntax) for each in association.rejected_contexts}
        raise ConfigError(f"{peer.address}: accepts no {', nor '.join(sorted(kinds))}")
    if not association.is_established:
        why = "rejects the association; does it know this AE title" if association.is_rejected else "does not answer"
        raise ConfigError(
            f"{peer.address}: {why} ({ae_title})" if association.is_rejected else f"{peer.address}: {why}"
        )
    return association


def _class_name(sop_class: str | None) -> str:
    """Returns a class of DICOM objects by its name."""
    return "Label Map Segmentation Storage" if sop_class == LABEL_MAP_STORAGE else str(UID(str(sop_class)).name)


def _stored_by_dicom(peer: Peer, files: Sequence[Path], ae_title: str) -> list[Answer]:
    from pynetdicom import build_context

    syntaxes: dict[str, set[str]] = defaultdict(set)
    for file in files:
        header = dcmread(file, specific_tags=["SOPClassUID"], stop_before_pixels=True)
        syntaxes[str(header.SOPClassUID)].add(str(header.file_meta.TransferSyntaxUID))
    contexts = [
        build_context(sop_class, list(group))
        for sop_class, used in syntaxes.items()
        for group in (UNCOMPRESSED, *([each] for each in sorted(used - {*UNCOMPRESSED})))
    ]
    association = associate(peer, contexts, ae_title)
    try:
        return [Answer(file, _stored(association, file)) for file in files]
    finally:
        association.release()


def _stored(association: Any, file: Path) -> str:
    """Returns why a file was not taken; "" where it was. A peer that cannot decompress gets it decompressed."""
    try:
        dataset = dcmread(file)
        kind = (dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        accepted = {(each.abstract_syntax, each.transfer_syntax[0]) for each in association.accepted_contexts}
        if kind[0] not in {sop_class for sop_class, _ in accepted}:
            return f"accepts no {_class_name(kind[0])}"
        if kind[1].is_compressed and kind not in accepted:
            dataset.decompress(generate_instance_uid=False)
        status: Dataset = association.send_c_store(dataset)
    except (ValueError, RuntimeError, AttributeError) as error:  # no context was accepted, or the association is gone
        return reason_of(error)
    if "Status" not in status:
        return "the connection was lost, or timed out"
    if status.Status in TAKEN:
        return ""
    comment = str(status.get("ErrorComment", ""))
    return f"it was refused with status 0x{status.Status:04X}{f' ({comment[:64]})' if comment else ''}"


def _stored_by_web(peer: Peer, files: Sequence[Path]) -> list[Answer]:
    from medseg.pacs.dicomweb import WebClient

    client = WebClient(peer)
    return [Answer(file, client.store(file)) for file in files]


def _copied(folder: Path, files: Sequence[Path]) -> list[Answer]:
    """Copies files into a folder: whole, flushed, and named by their UIDs, so that a rerun replaces them."""
    answers = []
    for file in files:
        uid = str(dcmread(file, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)
        place = folder / f"{uid}.dcm"
        with written_whole(place) as temporary:
            shutil.copyfile(file, temporary)
            flush(temporary)
        flush(folder)
        answers.append(Answer(file, ""))
    return answers
