"""/session/: images that a client sends for a while, without adding them to the folder."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from medseg.dataset.cases import Case
from medseg.io.discover import source_of
from medseg.io.read import read_geometry
from medseg.io.source import ImageSource
from medseg.serve.monai_label.uploads import received, stored
from medseg.serve.refusals import NotFoundError

MOST = 32
MOST_LARGEST = 4  # of these as large as a request may be
EXPIRY = 3600.0  # seconds without a request
LONGEST_EXPIRY = 86400.0


@dataclass
class ImageSession:
    """An image that a client sent.

    Attributes:
        place: The temporary folder that it lies in.
        case: The image.
        size: Of its files, in bytes.
        created: When, in seconds since 1970.
        used: When it was asked for last, by a clock that only goes forward.
        expiry: Seconds without a request after which it is forgotten.
    """

    place: TemporaryDirectory[str]
    case: Case
    size: int
    created: float
    used: float
    expiry: float

    def as_json(self, session_id: str) -> dict[str, object]:
        """Returns what clients are told of the session."""
        return {"id": session_id, "create_ts": int(self.created), "expiry": int(self.expiry), "image": session_id}


class ImageSessions:
    """Keeps images that clients sent; the oldest ones give way.

    Args:
        largest: Bytes that a request may send: images of so many requests may lie on the disk.
    """

    def __init__(self, largest: int) -> None:
        self.most_bytes = MOST_LARGEST * largest
        self.sessions: dict[str, ImageSession] = {}

    @property
    def routes(self) -> list[Route]:
        """The routes of the sessions, for Starlette."""
        return [
            Route("/session/", self._add, methods=["PUT", "POST"]),
            Route("/session/{session_id}", self._get, methods=["GET"]),
            Route("/session/{session_id}", self._remove, methods=["DELETE"]),
        ]

    def case(self, session_id: str) -> Case:
        """Returns the image of a session.

        Raises:
            NotFoundError: There is none, or no longer.
        """
        return self._known(session_id).case

    def forget_expired(self) -> None:
        """Removes images that nobody asked for since long."""
        now = time.monotonic()
        for old in [key for key, each in self.sessions.items() if now - each.used > each.expiry]:
            self._forget(old)

    def _known(self, session_id: str) -> ImageSession:
        self.forget_expired()
        if session_id not in self.sessions:
            raise NotFoundError("there is no such session, or it has expired")
        self.sessions[session_id].used = time.monotonic()
        return self.sessions[session_id]

    def _forget(self, session_id: str) -> None:
        self.sessions.pop(session_id).place.cleanup()

    def _make_room(self, size: int) -> None:
        """Removes the images that were asked for longest ago, until another one of a size has its place."""
        self.forget_expired()
        for oldest in sorted(self.sessions, key=lambda key: self.sessions[key].used):
            if (
                len(self.sessions) < MOST
                and size + sum(each.size for each in self.sessions.values()) <= self.most_bytes
            ):
                return
            self._forget(oldest)

    async def _add(self, request: Request) -> Response:
        async with received(request) as (form, _):
            uploads = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
            if not uploads:
                raise HTTPException(400, "no file came with the request: send the image as 'files'")
            place = TemporaryDirectory(ignore_cleanup_errors=True)
            try:
                folder = Path(place.name)
                suffix = ".dcm" if len(uploads) > 1 else None
                paths = [await stored(upload, folder, f"{i:05d}", suffix) for i, upload in enumerate(uploads)]
                source = await run_in_threadpool(_readable, paths[0] if len(paths) == 1 else folder)
            except BaseException:
                place.cleanup()
                raise
        size = sum(path.stat().st_size for path in paths)
        self._make_room(size)
        asked = request.query_params.get("expiry", "")
        expiry = min(float(asked), LONGEST_EXPIRY) if asked.isdecimal() and int(asked[:9]) > 60 else EXPIRY
        session_id = secrets.token_hex(16)
        case = Case("image", (source,))
        self.sessions[session_id] = ImageSession(place, case, size, time.time(), time.monotonic(), expiry)
        return JSONResponse({"session_id": session_id, "session_info": self.sessions[session_id].as_json(session_id)})

    async def _get(self, request: Request) -> Response:
        session_id = request.path_params["session_id"]
        session = self._known(session_id)
        if request.query_params.get("image", "").lower() in ("true", "1"):
            path = session.case.images[0].path
            return FileResponse(path, filename=path.name) if path.is_file() else JSONResponse({}, 404)
        return JSONResponse(session.as_json(session_id))

    async def _remove(self, request: Request) -> Response:
        session_id = request.path_params["session_id"]
        info = self._known(session_id).as_json(session_id)
        self._forget(session_id)
        return JSONResponse(info)


def _readable(path: Path) -> ImageSource:
    """Returns an image whose header can be read.

    Raises:
        SourceError: It cannot.
    """
    source = source_of(path)
    read_geometry(source)
    return source
