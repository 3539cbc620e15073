"""The application: the routes of all protocols behind one access, and errors in words."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from medseg.errors import defect, of_the_machine
from medseg.progress import warn
from medseg.serve.access import Access
from medseg.serve.refusals import refusal_handlers
from medseg.serve.state import ServerState

logger = logging.getLogger(__name__)

# Of answers that pages of another origin may read.
EXPOSED = ("Content-Disposition", "X-Meta", "Retry-After")
UPKEEP = 60.0  # seconds from one to the next
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def create_app(state: ServerState, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Returns the ASGI application of a server.

    Args:
        state: What all requests share.
        routes: Of the protocols that it is to speak.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        medseg_logger = logging.getLogger("medseg")
        medseg_logger.addHandler(state.log)
        upkeep = asyncio.create_task(_upkeep(state))
        try:
            yield
        finally:
            upkeep.cancel()
            medseg_logger.removeHandler(state.log)
            state.training.stop()
            state.queue.close()

    middleware = [
        Middleware(Access, rules=state.rules),
        Middleware(Answered),
        Middleware(RequestBodyLimitMiddleware, max_body_size=state.rules.largest_body),
    ]
    if state.rules.origins:
        of_pages = Middleware(
            CORSMiddleware,
            allow_origins=state.rules.origins,
            allow_methods=("*",),
            allow_headers=("*",),
            expose_headers=EXPOSED,
        )
        middleware.insert(1, of_pages)
    app = Starlette(
        routes=[Route("/healthz", _healthz), *routes],
        middleware=middleware,
        exception_handlers=refusal_handlers(),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would lead to an address without the token
    return app


async def _upkeep(state: ServerState) -> None:
    while True:
        await asyncio.sleep(UPKEEP)
        for each in state.upkeep:
            each()


async def _healthz(request: Request) -> Response:
    return JSONResponse({"ok": True})


class Answered:
    """Adds headers that all answers have, and makes a defect an answer, which is logged in one line.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the application answer one request."""
        began = False

        async def with_headers(message: Any) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        try:
            await self.app(scope, receive, with_headers)
        except Exception as error:
            logger.debug("", exc_info=error)
            reason = of_the_machine(error) or defect(error)
            warn(f"{scope.get('path', '')[:80]}: {reason}")
            if began:
                raise
            status = 507 if isinstance(error, OSError) and error.errno in FULL else 500
            await JSONResponse({"detail": reason}, status)(scope, receive, with_headers)
