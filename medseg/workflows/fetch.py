"""fetch: DICOM studies from an archive, by DICOMweb or by DICOM's own query and retrieve, into a folder."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ConfigError, SourceError
from medseg.extras import check_installed
from medseg.progress import counted, say

if TYPE_CHECKING:
    from medseg.pacs.remote import Fetched

# Beside options, where commands that take addresses as sources have none.
FILES = {
    "token_file": "MEDSEG_DICOMWEB_TOKEN_FILE", "certificate": "MEDSEG_DICOM_CERTIFICATE", "key": "MEDSEG_DICOM_KEY",
    "ca": "MEDSEG_DICOM_CA",
}  # fmt: skip
AE_TITLE, MOVE_PORT = "MEDSEG_AE_TITLE", "MEDSEG_MOVE_PORT"
FETCHED = "fetched"  # the folder in an output's where other verbs keep what they fetched


def fetch(
    source: str,
    output: str | Path,
    *,
    token_file: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    ca: str | Path | None = None,
    ae_title: str | None = None,
    move_port: int | None = None,
) -> "Fetched":
    """Fetches DICOM studies from an archive; what is in the output already is not fetched again.

    Each instance appears whole or not at all, as the archive stores it, and a call that was killed can be repeated.
    Without an option, environment variables count: MEDSEG_DICOMWEB_TOKEN_FILE, MEDSEG_DICOM_CERTIFICATE,
    MEDSEG_DICOM_KEY, MEDSEG_DICOM_CA, MEDSEG_AE_TITLE, MEDSEG_MOVE_PORT.

    Args:
        source: ``dicomweb+https://HOST/BASE/studies/UID``, ``dicom://AET@HOST:PORT/studies/UID`` or, in TLS,
            ``dicom+tls://…``, with ``/series/UID`` or a query by DICOM's keywords:
            ``?PatientID=P1&ModalitiesInStudy=CT``, ``?StudyDate=20260101-20260131&Modality=MR``.
        output: The folder of ``STUDY/SERIES/INSTANCE.dcm``.
        token_file: Of DICOMweb: a file with the bearer token, or with ``user:password``.
        certificate: Of TLS: who this side is, in PEM; with ``key``.
        key: Of TLS, in PEM.
        ca: Of TLS: the authorities of the archive's certificate, in PEM. None: those of the system.
        ae_title: Of this side, in DICOM; MEDSEG by default.
        move_port: The archive sends instances to this port (C-MOVE), which it has to know by the AE title. None: they
            come in the same association (C-GET).

    Returns:
        What is there now, and what could not be fetched.

    Raises:
        ConfigError: The address or a file is wrong, or the archive cannot be reached.
        SourceError: The archive refuses, or has no such study.
        OutputError: The folder cannot be written.
    """
    check_installed(source, "dicom-network")
    from medseg.pacs.remote import RemoteSource, fetch_source

    files = files_of_peer(token_file=token_file, certificate=certificate, key=key, ca=ca)
    remote = RemoteSource.of(source, **files)
    port = os.environ.get(MOVE_PORT, "") if move_port is None else str(move_port)
    if port and not port.isdigit():
        raise ConfigError(f"{MOVE_PORT}: '{port}' is no port")
    result = fetch_source(remote, Path(output), own_title(ae_title), int(port) if port else None)
    say(f"{counted(result.n_instances, 'instance')} in {result.folder}, {result.n_new} of them new")
    return result


def files_of_peer(**given: str | Path | None) -> dict[str, Path | None]:
    """Returns the files of token and TLS, with those of the environment where none are given."""
    paths = {name: given.get(name) or os.environ.get(variable) for name, variable in FILES.items()}
    return {name: Path(path) if path else None for name, path in paths.items()}


def own_title(given: str | None) -> str:
    """Returns the AE title of this side: the given one, else that of the environment, else MEDSEG."""
    return given or os.environ.get(AE_TITLE) or "MEDSEG"


def fetched_if_remote(source: str | Path, output: str | Path | None) -> str | Path:
    """Returns a source as it is, or the folder below the output that an address was fetched into.

    Args:
        source: A path, or an address of an archive.
        output: The folder of the verb.

    Raises:
        MedsegError: It cannot be fetched whole.
    """
    from medseg.pacs.remote import is_remote

    if not is_remote(source):
        return source
    folder = None if output is None else Path(output)
    if folder is None or folder.suffix:
        raise ConfigError(f"{source}: is fetched into the output, which is no folder; give one, or 'medseg fetch' it")
    result = fetch(str(source), folder / FETCHED)
    if result.problems:
        raise SourceError(f"{source}: is not there whole, so nothing is made of it; {result.problems[0]}")
    return result.folder
