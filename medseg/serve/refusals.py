"""Why a request is refused, and what the client is told: errors of medseg as HTTP has them."""

from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from medseg.errors import MedsegError, OutputError

RETRY_AFTER = 5  # seconds

Handler = Callable[[Request, Exception], Response]


class NotFoundError(MedsegError):
    """What a client asks for is not there: 404."""


class ConflictError(MedsegError):
    """What is there is another than what the client means: 409."""


class BusyError(MedsegError):
    """More is waiting, or more sessions are open, than the server takes: 503."""


def refusal_handlers() -> dict[Any, Handler]:
    """Returns how errors become answers; what a client can cause is told in words, as ``{"detail": …}``."""

    def of_http(request: Request, error: Exception) -> Response:
        http = error if isinstance(error, HTTPException) else HTTPException(500)
        return JSONResponse({"detail": http.detail}, http.status_code, http.headers)

    return {
        MedsegError: _refusal(400),
        OutputError: _refusal(507),  # mostly a full disk, and never the client's fault
        NotFoundError: _refusal(404),
        ConflictError: _refusal(409),
        BusyError: _refusal(503, {"Retry-After": str(RETRY_AFTER)}),
        HTTPException: of_http,
    }


def _refusal(status: int, headers: dict[str, str] | None = None) -> Handler:
    return lambda request, error: JSONResponse({"detail": str(error)}, status, headers)
