"""send: DICOM files to an archive, a DICOMweb server or a folder; each answer is checked, and asked for again."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import Problem, SourceError
from medseg.extras import check_installed
from medseg.io.dicom.files import read_headers
from medseg.io.folders import files_under
from medseg.progress import counted, say, warn
from medseg.workflows.fetch import files_of_peer, own_title

FIRST_WAIT = 2.0  # seconds before the second try; twice as many before each further one


@dataclass(frozen=True)
class SendResult:
    """What was sent.

    Attributes:
        sent: The files that were taken.
        problems: Those that were not, each with the last answer.
    """

    sent: tuple[Path, ...]
    problems: tuple[Problem, ...] = ()


def send(
    source: str | Path | Sequence[str | Path],
    destination: str,
    *,
    tries: int = 5,
    ae_title: str | None = None,
    token_file: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    ca: str | Path | None = None,
) -> SendResult:
    """Sends DICOM files, such as masks of ``predict``, to an archive.

    What is not taken is sent again after 2 s, 4 s, 8 s, …. UIDs of masks follow from what they were made of, so that
    sending one twice, or after another run, does not double it.

    Args:
        source: Files, or folders whose DICOM files are meant.
        destination: ``AET@host:port``, ``tls:AET@host:port``, the URL of a DICOMweb server, or a folder.
        tries: How many times a file is sent at most.
        ae_title: Of this side, in DICOM; MEDSEG by default. As in ``fetch``, environment variables count where this or
            a file is not given.
        token_file: Of DICOMweb: a file with the bearer token, or with ``user:password``.
        certificate: Of TLS: who this side is, in PEM; with ``key``.
        key: Of TLS, in PEM.
        ca: Of TLS: the authorities of the archive's certificate, in PEM.

    Returns:
        What was taken, and what was not.

    Raises:
        ConfigError: The destination or a file of it is wrong.
        SourceError: There is no DICOM file.
    """
    check_installed("send", "dicom-network")
    from medseg.pacs.destinations import send_files
    from medseg.pacs.peers import Peer

    peer = Peer.of(destination, **files_of_peer(token_file=token_file, certificate=certificate, key=key, ca=ca))
    title = own_title(ae_title)
    given = [Path(each) for each in ([source] if isinstance(source, str | Path) else source)]
    listed = [file for path in given for file in (files_under(path) if path.is_dir() else [path])]
    waiting = [header.path for header in read_headers(listed)[0]]
    if not waiting:
        raise SourceError(f"{', '.join(map(str, given))}: holds no DICOM file")
    sent: list[Path] = []
    failures: dict[Path, str] = {}
    for number in range(tries):
        answers = send_files(peer, waiting, title)
        sent += [answer.file for answer in answers if not answer.failure]
        failures = {answer.file: answer.failure for answer in answers if answer.failure}
        waiting = list(failures)
        if not waiting or number == tries - 1:
            break
        wait = FIRST_WAIT * 2**number
        first = next(iter(failures.values()))
        warn(f"{counted(len(waiting), 'file')} not taken ({first}); sent again in {wait:.0f} s")
        time.sleep(wait)
    problems = tuple(Problem("", file, f"{file}: was not taken: {why}") for file, why in failures.items())
    for problem in problems:
        warn(str(problem))
    say(f"{counted(len(sent), 'file')} sent to {peer.address}")
    return SendResult(tuple(sent), problems)
