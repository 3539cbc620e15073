"""Programs that speak DICOM, and folders: where studies come from, and where results go."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from medseg.errors import ConfigError
from medseg.records import Record

AE_TITLE = r"[^\\\s](?:[^\\\r\n]{0,14}[^\\\s])?"  # PS3.5, 6.2: up to 16 characters, no backslash
DICOM = re.compile(rf"^(?P<tls>tls:)?(?P<title>{AE_TITLE})@(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+):(?P<port>\d{{1,5}})$")
ANYBODY = "*"


class Peer(Record):
    """A program that takes or gives DICOM objects, or a folder; in YAML its address alone will do.

    Attributes:
        address: ``AET@host:port``, ``tls:AET@host:port``, the base of DICOMweb's services
            (``https://host/dicom-web``), or a folder.
        token_file: Of DICOMweb: the file of the bearer token; or of ``user:password``.
        certificate: Of TLS: the file with which this side shows who it is, in PEM.
        key: The file of its key.
        ca: The file of the authorities that the other side's certificate is checked by; None: those of the system.

    Examples:
        >>> peer = Peer.of("ORTHANC@10.0.0.5:4242")
        >>> peer.kind, peer.title, peer.host, peer.port
        ('dicom', 'ORTHANC', '10.0.0.5', 4242)
    """

    address: str = Field(min_length=1)
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_an_address(cls, content: object) -> object:
        return {"address": content} if isinstance(content, str) else content

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "dicom" and not 0 < self.port < 2**16:
            raise ValueError(f"{self.address}: there is no port {self.port}")
        if self.kind == "folder" and re.search(r"@|^\w+:", self.address) and not Path(self.address).is_absolute():
            raise ValueError(f"{self.address}: is no AET@host:port; of a folder write the absolute path")
        if self.kind == "web":
            parts = urlsplit(self.address)
            if parts.username or parts.password:
                raise ValueError("a password in an address is seen by others; put USER:PASSWORD in a token_file")
            if not parts.hostname:
                raise ValueError(f"{self.address}: names no host")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: the two files of TLS, in PEM")
        return self

    @classmethod
    def of(cls, address: str, **files: Path | None) -> "Peer":
        """Returns the peer of an address.

        Raises:
            ConfigError: It is none.
        """
        try:
            return cls(address=address, **files)
        except ValueError as error:
            raise ConfigError(f"{address[:80]}: cannot be used; write AET@host:port, a URL, or a folder") from error

    @property
    def kind(self) -> Literal["dicom", "web", "folder"]:
        """How the peer is reached: by DICOM's own protocol, by DICOMweb, or as a folder for files."""
        if self.address.startswith(("http://", "https://")):
            return "web"
        if self.address.startswith(("/", ".")):
            return "folder"
        return "dicom" if DICOM.match(self.address) else "folder"

    @property
    def title(self) -> str:
        """The peer's AE title."""
        return self._part("title")

    @property
    def host(self) -> str:
        """The name or IP address of the peer's machine."""
        return self._part("host").strip("[]")

    @property
    def port(self) -> int:
        """The TCP port that the peer listens at."""
        return int(self._part("port"))

    @property
    def in_tls(self) -> bool:
        """Whether DICOM is spoken within TLS."""
        return bool(self._part("tls"))

    def _part(self, name: str) -> str:
        found = DICOM.match(self.address)
        if found is None:
            raise ConfigError(f"{self.address}: is no AET@host:port")
        return found[name] or ""

    def token(self) -> str:
        """Returns what its token file holds; "" without one.

        Raises:
            ConfigError: The file cannot be read.
        """
        if self.token_file is None:
            return ""
        try:
            return self.token_file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.token_file}: cannot be read; give the file of the token") from error


class Caller(Record):
    """Who may send: an AE title, an address or network, or both.

    Attributes:
        title: The AE title; "*": any.
        network: ``10.0.0.7`` or ``10.0.0.0/24``; "*": any.

    Examples:
        >>> Caller.of("CT1@10.0.0.0/24").lets_in("CT1", "10.0.0.9")
        True
        >>> Caller.of("CT1").lets_in("CT2", "10.0.0.9")
        False
    """

    title: str
    network: str = ANYBODY

    @model_validator(mode="before")
    @classmethod
    def _of_a_text(cls, content: object) -> object:
        if not isinstance(content, str):
            return content
        title, _, network = content.partition("@")
        return {"title": title.strip() or ANYBODY, "network": network.strip() or ANYBODY}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.title != ANYBODY and not re.fullmatch(AE_TITLE, self.title):
            raise ValueError(f"'{self.title}' is no AE title: up to 16 characters, without a backslash")
        if self.network != ANYBODY:
            ip_network(self.network, strict=False)
        return self

    @classmethod
    def of(cls, text: str) -> "Caller":
        """Returns who is meant by ``AET``, ``AET@address`` or ``*@network``.

        Raises:
            ConfigError: It is none of these.
        """
        try:
            return cls.model_validate(text)
        except ValueError as error:
            raise ConfigError(f"{text[:80]}: is no caller; write AET, AET@10.0.0.7 or *@10.0.0.0/24") from error

    def lets_in(self, title: str, address: str) -> bool:
        """Says whether a program of this AE title at this address is meant."""
        if self.title not in (ANYBODY, title):
            return False
        if self.network == ANYBODY:
            return True
        try:
            given = ip_address(address.removeprefix("::ffff:"))
        except ValueError:
            return False
        return given in ip_network(self.network, strict=False)
