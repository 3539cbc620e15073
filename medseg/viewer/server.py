"""Serves the viewer to the browser of this machine, and to nobody else."""

import logging
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from medseg.errors import defect, of_the_machine
from medseg.progress import warn
from medseg.viewer.contents import Content, ViewerContents

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"

# The browser itself refuses to load anything from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src data:; connect-src 'self' data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """Answers GET below a secret token, to this machine alone.

    Args:
        contents: What may be asked for.
        port: 0 takes a free one.

    Attributes:
        token: The first part of each address.
    """

    daemon_threads = True

    def __init__(self, contents: ViewerContents, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.find: Callable[[str], Content | None] = contents.find
        self.token = secrets.token_urlsafe(24)

    @property
    def address(self) -> str:
        """The URL of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "medseg"
    sys_version = ""

    def do_GET(self) -> None:
        try:
            self._get()
        except ConnectionError:  # the browser went elsewhere
            self.close_connection = True
        except Exception as error:
            logger.debug("", exc_info=error)
            warn(f"{self.path[:80]}: {of_the_machine(error) or defect(error)}")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _get(self) -> None:
        try:
            path = unquote(urlsplit(self.path).path)
        except ValueError:  # //[ is no address
            path = ""
        token, _, address = path.removeprefix("/").partition("/")
        if ".." in (token, *address.split("/")):
            self._refuse(HTTPStatus.NOT_FOUND)
        elif not secrets.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN)
        elif (content := self.server.find(address)) is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            self._answer(HTTPStatus.OK, content)

    def _refuse(self, status: HTTPStatus) -> None:
        self._answer(status, Content("text/plain; charset=utf-8", f"{status.value} {status.phrase}\n".encode()))

    def _answer(self, status: HTTPStatus, content: Content) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content.kind)
        self.send_header("Content-Length", str(len(content.body)))
        self.end_headers()
        self.wfile.write(content.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Writes nothing: a line for each slice is of no use."""
