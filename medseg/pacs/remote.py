"""Addresses of studies in an archive, and how what they name is fetched into a folder: again and again, until all is
there."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword

from medseg.errors import ConfigError, Problem, SourceError, did_you_mean, reason_of
from medseg.files import written_whole
from medseg.pacs.peers import Peer
from medseg.pacs.received import is_uid
from medseg.progress import counted, say, track, warn

if TYPE_CHECKING:  # it imports libraries that few need
    from medseg.pacs.dicomweb import Keep

WEB, CLEAR, TLS = ("dicomweb+https", "dicomweb+http"), "dicom", "dicom+tls"
SCHEMES = (*WEB, CLEAR, TLS)
TRIES = 3
SECONDS_BETWEEN_TRIES = 2.0  # before the second; twice as many before the third
MOST_STUDIES = 10_000  # that one query may find

# What a query asks of series; all else it asks of studies.
OF_SERIES = ("Modality", "SeriesDescription", "SeriesNumber", "SeriesInstanceUID", "BodyPartExamined", "ProtocolName")
BELOW = re.compile(r"(?P<base>.*?)/studies(?:/(?P<study>[^/]+)(?:/series/(?P<series>[^/]+))?)?/?$")


@dataclass(frozen=True)
class RemoteSource:
    """Studies in an archive: one, a series of it, or all that a query finds.

    Attributes:
        peer: The archive.
        study: StudyInstanceUID; "": of a query.
        series: SeriesInstanceUID; "": all of the study.
        query: Values by DICOM's keywords.

    Examples:
        >>> source = RemoteSource.of("dicomweb+https://pacs.org/dicom-web/studies/1.2.3?Modality=CT")
        >>> source.peer.address, source.study, source.query
        ('https://pacs.org/dicom-web', '1.2.3', {'Modality': 'CT'})
    """

    peer: Peer
    study: str = ""
    series: str = ""
    query: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, address: str, **files: Path | None) -> "RemoteSource":
        """Returns what an address names.

        Args:
            address: ``dicomweb+https://HOST/BASE/studies/UID``, or ``dicom://AET@HOST:PORT/studies/UID``, with
                ``/series/UID`` or a query (``?PatientID=P1``).
            files: Of token and TLS, as ``Peer`` has them.

        Raises:
            ConfigError: It is none.
        """
        address = re.sub(r"^([a-z+]+):/(?=[^/])", r"\1://", address)  # a Path has lost a slash
        parts = urlsplit(address)
        query = dict(parse_qsl(parts.query))
        for keyword in query:
            if tag_for_keyword(keyword) is None:
                raise ConfigError(f"{address}: there is no '{keyword}' in DICOM{did_you_mean(keyword, KNOWN)}")
        found = BELOW.fullmatch(parts.path)
        base, study, series = (
            (parts.path, "", "") if found is None else (found["base"], found["study"], found["series"])
        )
        for uid in filter(None, (study, series)):
            if not is_uid(uid):
                raise ConfigError(f"{address}: '{uid[:80]}' is no UID; write .../studies/1.2.3")
        if not study and not query:
            raise ConfigError(f"{address}: names no study; add /studies/UID, or a query such as ?PatientID=P1")
        if parts.scheme in WEB:
            where = urlunsplit((parts.scheme.removeprefix("dicomweb+"), parts.netloc, base.rstrip("/"), "", ""))
        else:
            where = f"{'tls:' if parts.scheme == TLS else ''}{parts.netloc}"
        return cls(Peer.of(where, **files), study or "", series or "", query)


KNOWN = (
    "PatientID", "PatientName", "AccessionNumber", "StudyDate", "StudyDescription", "ModalitiesInStudy", *OF_SERIES,
)  # fmt: skip


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes:
        folder: Where it lies: ``STUDY/SERIES/INSTANCE.dcm``, by UIDs.
        studies: The UIDs of the studies.
        n_instances: How many instances are there now.
        n_new: How many of them were not there before.
        problems: What could not be fetched.
    """

    folder: Path
    studies: tuple[str, ...]
    n_instances: int
    n_new: int
    problems: tuple[Problem, ...] = ()


class Client(Protocol):
    """What both ways to ask an archive have in common: see ``WebClient``."""

    def studies(self, query: Mapping[str, str]) -> list[str]:
        """Returns the UIDs of studies."""
        ...

    def series(self, study: str, query: Mapping[str, str]) -> list[str]:
        """Returns the UIDs of series."""
        ...

    def instances(self, study: str, series: str) -> list[str]:
        """Returns the UIDs of instances."""
        ...

    def fetch_all(self, study: str, series: str, instances: Sequence[str], keep: "Keep") -> None:
        """Fetches instances."""
        ...


def is_remote(source: str | Path) -> bool:
    """Says whether a source is an address of an archive, rather than a path."""
    scheme, slash, _ = str(source).partition(":/")
    return bool(slash) and scheme in SCHEMES  # a folder may be called dicom


def count_instances(peer: Peer, study: str, ae_title: str = "MEDSEG") -> int:
    """Returns how many instances of a study an archive has.

    Args:
        peer: The archive.
        study: StudyInstanceUID.
        ae_title: Of this side.

    Raises:
        MedsegError: The archive does not say it.
    """
    client = _client(peer, ae_title, None)
    return sum(len(client.instances(study, series)) for series in client.series(study, {}))


def fetch_source(source: RemoteSource, folder: Path, ae_title: str = "MEDSEG", move_port: int | None = None) -> Fetched:
    """Fetches what a source names; instances that are in the folder already are not fetched again.

    Each instance appears whole or not at all. What fails is tried three times, and then is a problem.

    Args:
        source: What is to be fetched.
        folder: Where it goes.
        ae_title: Of this side, in DICOM.
        move_port: Where instances come to by C-MOVE; None: they are fetched by C-GET.

    Raises:
        SourceError: The archive does not answer, or has no such study.
        ConfigError: It cannot be reached.
    """
    client = _client(source.peer, ae_title, move_port)
    of_series = {key: value for key, value in source.query.items() if key in OF_SERIES}
    of_studies = {key: value for key, value in source.query.items() if key not in OF_SERIES}
    if source.study:
        of_studies["StudyInstanceUID"] = source.study
    if source.series:
        of_series["SeriesInstanceUID"] = source.series
    studies = client.studies(of_studies)
    if not studies:
        raise SourceError(f"{source.peer.address}: has no such study")
    if len(studies) > MOST_STUDIES:
        raise SourceError(f"{source.peer.address}: {len(studies):,} studies are meant; ask for less")
    series = [(study, uid) for study in studies for uid in client.series(study, of_series)]
    say(f"{source.peer.address}: {counted(len(studies), 'study').replace('studys', 'studies')}, {len(series)} series")
    n_instances = n_new = 0
    problems: list[Problem] = []
    for study, uid in track(series, "Fetching series", len(series)):
        place = folder / study / uid
        every = client.instances(study, uid)
        lacking = [each for each in every if not (place / f"{each}.dcm").is_file()]
        still, problem = _fetched(client, study, uid, lacking, folder)
        n_instances, n_new = n_instances + len(every) - len(still), n_new + len(lacking) - len(still)
        if still:
            text = f"{counted(len(still), 'instance')} of {len(every)} could not be fetched ({problem}); try again"
            problems.append(Problem("", place, f"{place}: {text}"))
            warn(str(problems[-1]))
    return Fetched(folder, tuple(studies), n_instances, n_new, tuple(problems))


def _fetched(client: Client, study: str, series: str, lacking: list[str], folder: Path) -> tuple[list[str], str]:
    """Fetches instances of a series, and returns those that are lacking after three tries, and why."""

    def keep(uids: tuple[str, str, str], write: Callable[[BinaryIO], object]) -> None:
        with written_whole(folder / uids[0] / uids[1] / f"{uids[2]}.dcm") as temporary:
            with temporary.open("wb") as file:
                write(file)
            _check(temporary, uids)

    place, problem = folder / study / series, ""
    for number in range(TRIES):
        if not lacking:
            break
        time.sleep(number * SECONDS_BETWEEN_TRIES)
        try:
            client.fetch_all(study, series, lacking, keep)
            problem = "the archive did not send them"
        except SourceError as error:
            problem = str(error)
        lacking = [each for each in lacking if not (place / f"{each}.dcm").is_file()]
    return lacking, problem


def _check(path: Path, uids: tuple[str, str, str]) -> None:
    """Checks that a file is the instance that was asked for.

    Raises:
        SourceError: It is another one, or none.
    """
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        found = tuple(str(header[keyword].value) for keyword in keywords)
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise SourceError(f"an answer of the archive is no DICOM object ({reason_of(error)})") from error
    if found != uids:
        raise SourceError("the archive sent another instance than it was asked for")


def _client(peer: Peer, ae_title: str, move_port: int | None) -> Client:
    """Returns what asks an archive.

    Raises:
        ConfigError: The address is that of a folder.
    """
    if peer.kind == "web":
        from medseg.pacs.dicomweb import WebClient

        return WebClient(peer)
    if peer.kind == "folder":
        raise ConfigError(f"{peer.address}: is no archive; write dicom://AET@host:port, or dicomweb+https://…")
    from medseg.pacs.archive import ArchiveClient

    return ArchiveClient(peer, ae_title, move_port)
