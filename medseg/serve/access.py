"""Who may ask the server for something: a token, the origin of a page, and how much may be sent."""

import asyncio
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from medseg.errors import ConfigError

LEAST_TOKEN = 16  # characters, where others than this machine can try
WAIT = 0.5  # seconds before a wrong token is refused, so that guessing takes ages

# What everybody may ask: whether there is a server, and how to be let in.
OPEN = ("/healthz", "/readyz", "/auth/", "/auth", "/auth/token")


@dataclass(frozen=True)
class AccessRules:
    """Who may ask the server for something.

    Attributes:
        host: The address that it is bound to.
        token: What clients have to know; None lets all programs of this machine in.
        origins: Of pages that may ask too, beside the server's own: ``"http://localhost:3000"`` for an OHIF there.
        largest_body: Bytes that the body of a request may have.

    Raises:
        ConfigError: Others than this machine could ask without a token, or guess it.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    origins: tuple[str, ...] = ()
    largest_body: int = 2**30

    def __post_init__(self) -> None:
        if self.token is None and not self.is_local:
            raise ConfigError(f"--host {self.host}: anybody in the network could ask; leave --no-token out")
        if self.token is not None and re.fullmatch(f"[A-Za-z0-9_-]{{{LEAST_TOKEN},}}", self.token) is None:
            raise ConfigError(
                f"--token: give {LEAST_TOKEN} or more letters, digits, '-' and '_', as it is a part of the address"
            )
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
                raise ConfigError(f"--origin {origin}: write it as http://localhost:3000, without a path")

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach the server."""
        return is_loopback(self.host)

    @classmethod
    def of(
        cls, host: str, token: str | None, use_token: bool, origins: Sequence[str] = (), largest_body: int = 2**30
    ) -> "AccessRules":
        """Returns the rules that a user means.

        Args:
            host: The address that the server is bound to.
            token: What clients have to know; None: a new one, that nobody can guess.
            use_token: Whether there is a token at all.
            origins: Of pages that may ask too.
            largest_body: Bytes that the body of a request may have.

        Raises:
            ConfigError: Others than this machine could ask without a token, or guess it.
        """
        known = (token or secrets.token_urlsafe(24)) if use_token else None
        return cls(host, known, tuple(origin.rstrip("/") for origin in origins), largest_body)


def is_loopback(host: str) -> bool:
    """Says whether a name or address is that of this machine itself."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """Lets a request through to an ASGI application, or refuses it.

    A client shows the token as ``Authorization: Bearer TOKEN``, or as the first part of the path, which all clients can
    that only know an address: ``http://127.0.0.1:8000/TOKEN/info/``. Without a token the answer is 401, with a wrong
    one 403. Pages of other origins are refused (403), and so are names of this machine that it does not know itself by
    (400), since a stranger's page could be given one (DNS rebinding).

    Args:
        app: The application.
        rules: Who may ask.
    """

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or lets the application answer it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers, rules = Headers(scope=scope), self.rules
        host = headers.get("host", "")
        own_names = {urlsplit(origin).netloc for origin in rules.origins}  # of a proxy before it, too
        if rules.is_local and not is_loopback(_name_of(host)) and host not in own_names:
            await _refuse(400, "the server is not known by this name", scope, receive, send)
            return
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host and origin not in rules.origins:
            await _refuse(
                403, f"pages of {origin[:80]} may not ask; start the server with --origin", scope, receive, send
            )
            return
        scope, in_path = self._without_token(scope)
        if not in_path and (status := self._missing(scope, headers)):
            await asyncio.sleep(WAIT if status == 403 else 0)
            await _refuse(
                status, "the token is missing" if status == 401 else "the token is wrong", scope, receive, send
            )
            return
        await self.app(scope, receive, send)

    def _without_token(self, scope: Scope) -> tuple[Scope, bool]:
        """Returns the scope of what is asked below the token in a path, and whether that is right."""
        first, _, rest = scope["path"].removeprefix("/").partition("/")
        if self.rules.token is None or not _same(first, self.rules.token):
            return scope, False
        prefix = f"/{first}"
        return {**scope, "path": f"/{rest}", "raw_path": None, "app_root_path": prefix}, True

    def _missing(self, scope: Scope, headers: Headers) -> int:
        """Returns the status with which a request without a right token is refused; 0 where it needs none."""
        is_preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if self.rules.token is None or scope["path"] in OPEN or is_preflight:
            return 0
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and given:
            return 0 if _same(given.strip(), self.rules.token) else 403
        first = scope["path"].removeprefix("/").partition("/")[0]
        return 403 if len(first) >= LEAST_TOKEN else 401


async def token_fits(given: str, rules: AccessRules) -> bool:
    """Returns whether a text is the token; of a wrong one only after a while."""
    if rules.token is not None and _same(given, rules.token):
        return True
    await asyncio.sleep(WAIT)
    return False


async def _refuse(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    await JSONResponse({"detail": detail}, status, {**headers, "Connection": "close"})(scope, receive, send)


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
