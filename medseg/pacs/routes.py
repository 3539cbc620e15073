"""What is told about the DICOM service over HTTP: whether it can take studies, and what has become of them."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from medseg.pacs.service import DicomService


class DicomRoutes:
    """The routes of a DICOM service.

    ``/readyz`` needs no token: 200, or 503 with what is wrong. ``/dicom/status`` has counts and the last studies, by
    the names that they have in the queue.

    Args:
        service: The service.
    """

    def __init__(self, service: DicomService) -> None:
        self.service = service

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of the application."""
        return [Route("/readyz", self._ready), Route("/dicom/status", self._status)]

    async def _ready(self, request: Request) -> Response:
        faults = self.service.faults
        return JSONResponse({"ready": not faults, "faults": faults}, 503 if faults else 200)

    def _status(self, request: Request) -> Response:
        return JSONResponse(self.service.status())
