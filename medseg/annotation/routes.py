"""The page and what it asks for, below ``/annotate/``."""

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib.resources import files
from threading import Lock
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from medseg.annotation.drawing import Change
from medseg.annotation.folder import AnnotatedFolder
from medseg.annotation.next_case import STRATEGIES, CaseChooser
from medseg.annotation.open_case import OpenCase
from medseg.annotation.prompt_message import LONGEST_NAME, PromptMessage
from medseg.annotation.rounds import Rounds
from medseg.annotation.shown_grid import shape_of
from medseg.errors import ConfigError
from medseg.interactive.prompts import Bounds
from medseg.records import Record, explained
from medseg.serve.models import ServedModel
from medseg.serve.refusals import NotFoundError
from medseg.serve.state import ServerState
from medseg.structures import Colour
from medseg.viewer.server import POLICY

KEPT = 3  # cases in memory
TRAINED = "trained-here"  # the name of a model where none was given
BOUNDS_HEADER = "X-Bounds"
LARGEST_MESSAGE = 2**26  # bytes of JSON

PAGES = {
    "": ("annotate.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "annotate.js": ("annotate.js", "text/javascript"),
    "drawing.js": ("drawing.js", "text/javascript"),
    "slices.js": ("slices.js", "text/javascript"),
    "niivue.js": ("niivue/niivue.umd.js", "text/javascript"),
}

R = TypeVar("R", bound=BaseModel)
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
BOX = re.compile(",".join(["([0-9]{1,9})"] * 6))


class NewLabel(Record):
    """A label that is to be added."""

    name: Name
    colour: Colour | None = None


class Interpolation(Record):
    """The slices of a label that are to be filled in, and the axis that they are stacked along."""

    label: Name
    axis: int


class FirstMaskMessage(Record):
    """Whether what is drawn already stays when the model draws."""

    keeps_drawn: bool = True


class TrainingMessage(Record):
    """Whether training begins or ends."""

    start: bool


class AnnotationRoutes:
    """Answers the page.

    Args:
        state: The server's; its first model helps.
        folder: What is annotated.
        rounds: Trains in the background.
        annotator: Who draws.
        max_time: Of each training.
    """

    def __init__(
        self, state: ServerState, folder: AnnotatedFolder, rounds: Rounds, annotator: str, max_time: str
    ) -> None:
        self.state, self.folder, self.rounds, self.annotator = state, folder, rounds, annotator
        self.max_time = max_time
        self.chooser = CaseChooser(folder, rounds)
        self._open: OrderedDict[str, OpenCase] = OrderedDict()
        self._lock = Lock()

    @property
    def model(self) -> ServedModel | None:
        """The model that helps: the one that was given, or the first that was trained here; None without one."""
        return next(iter(self.state.models.values()), None)

    def routes(self) -> list[BaseRoute]:
        """Returns the routes, for ``create_app``."""
        case = "/case/{case:path}"
        return [
            Route("/annotate", lambda request: RedirectResponse("annotate/")),
            Mount(
                "/annotate",
                routes=[
                    Route("/state.json", self._state),
                    Route("/next.json", self._next),
                    Route("/training.json", self._training),
                    Route("/training", self._train, methods=["POST"]),
                    Route("/labels", self._add_label, methods=["POST"]),
                    Route(f"{case}/scene.json", self._scene),
                    Route(f"{case}/image.nii", self._image),
                    Route(f"{case}/drawing.nii", self._drawing),
                    Route(f"{case}/edit", self._edit, methods=["POST"]),
                    Route(f"{case}/prompt", self._prompt, methods=["POST"]),
                    Route(f"{case}/interpolate", self._interpolate, methods=["POST"]),
                    Route(f"{case}/first-mask", self._first_mask, methods=["POST"]),
                    Route(f"{case}/undo", self._undo, methods=["POST"]),
                    Route(f"{case}/save", self._save, methods=["POST"]),
                    Route("/{page:path}", self._page),
                ],
            ),
        ]

    async def _page(self, request: Request) -> Response:
        name = request.path_params["page"]
        if name not in PAGES:
            raise NotFoundError("there is no such page")
        file, kind = PAGES[name]
        content = files("medseg.viewer").joinpath(file).read_bytes()
        return Response(content, media_type=kind, headers={"Content-Security-Policy": POLICY})

    async def _state(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._described))

    def _described(self) -> dict[str, Any]:
        folder, held = self.folder, set(self.folder.held_back)
        annotated = set(folder.annotated)
        return {
            "title": folder.datastore.folder.resolve().name,
            "annotator": self.annotator,
            "labels": [{"name": label.name, "colour": label.colour} for label in folder.labels.items],
            "cases": [
                {
                    "case_id": case_id,
                    "state": "draft"
                    if folder.journal(case_id).is_file()
                    else "saved"
                    if case_id in annotated
                    else "new",
                    "held_back": case_id in held,
                }
                for case_id in folder.datastore.cases
            ],
            "model": None
            if self.model is None
            else {
                "name": self.model.name,
                "prompts": self.model.is_promptable,
                "labels": self.model.label_names,
            },
            "strategies": list(STRATEGIES),
        }

    async def _next(self, request: Request) -> Response:
        strategy = request.query_params.get("strategy", next(iter(STRATEGIES)))
        choice = await run_in_threadpool(self.chooser.next_case, strategy)
        return JSONResponse(None if choice is None else choice._asdict())

    async def _training(self, request: Request) -> Response:
        return JSONResponse((await run_in_threadpool(self.rounds.told)).as_json())

    async def _train(self, request: Request) -> Response:
        message = await _message(request, TrainingMessage)
        if message.start:
            name = TRAINED if self.model is None else self.model.name
            await run_in_threadpool(self.rounds.start, name, self.max_time)
        else:
            await run_in_threadpool(self.rounds.stop)
        return await self._training(request)

    async def _add_label(self, request: Request) -> Response:
        message = await _message(request, NewLabel)
        await run_in_threadpool(self.folder.add_label, message.name, message.colour)
        return await self._state(request)

    async def _scene(self, request: Request) -> Response:
        case = await run_in_threadpool(self._case, request)
        return JSONResponse(await run_in_threadpool(case.scene))

    async def _image(self, request: Request) -> Response:
        case = await run_in_threadpool(self._case, request)
        return Response(await run_in_threadpool(case.image_file), media_type="application/octet-stream")

    async def _drawing(self, request: Request) -> Response:
        case = await run_in_threadpool(self._case, request)
        return Response(await run_in_threadpool(case.drawing_file), media_type="application/octet-stream")

    async def _edit(self, request: Request) -> Response:
        bounds = _bounds(request.headers.get(BOUNDS_HEADER, ""))
        body, shape = await request.body(), shape_of(bounds)
        if min(shape) < 1 or len(body) != int(np.prod(shape)):
            raise ConfigError(f"the box {bounds} has not {len(body)} voxels; reload the page")
        values = np.frombuffer(body, np.uint8).reshape(shape, order="F")
        return await self._changed(request, run_in_threadpool, lambda case: case.edit(bounds, values))

    async def _prompt(self, request: Request) -> Response:
        message = await _message(request, PromptMessage)
        return await self._changed(request, self.state.queue.run, lambda case: case.prompt(message))

    async def _interpolate(self, request: Request) -> Response:
        message = await _message(request, Interpolation)
        return await self._changed(
            request, run_in_threadpool, lambda case: case.interpolate(message.label, message.axis)
        )

    async def _first_mask(self, request: Request) -> Response:
        message = await _message(request, FirstMaskMessage)
        return await self._changed(request, self.state.queue.run, lambda case: case.first_mask(message.keeps_drawn))

    async def _undo(self, request: Request) -> Response:
        return await self._changed(request, run_in_threadpool, lambda case: case.undo())

    async def _save(self, request: Request) -> Response:
        case = await run_in_threadpool(self._case, request)
        await run_in_threadpool(case.save, self.annotator)
        return await self._state(request)

    async def _changed(
        self,
        request: Request,
        run: Callable[..., Awaitable[Change | None]],
        function: Callable[[OpenCase], Change | None],
    ) -> Response:
        """Returns what a function of the case changes, as the voxels of a box."""
        case = await run_in_threadpool(self._case, request)
        change = await run(function, case)
        if change is None or 0 in shape_of(change.bounds):
            return Response(status_code=204)
        bounds = ",".join(str(end) for pair in change.bounds for end in pair)
        body = change.values.tobytes(order="F")
        return Response(body, media_type="application/octet-stream", headers={BOUNDS_HEADER: bounds})

    def _case(self, request: Request) -> OpenCase:
        case_id = request.path_params["case"]
        if case_id not in self.folder.datastore.cases:
            raise NotFoundError(f"there is no case '{case_id[:80]}'")
        with self._lock:  # the page asks for all parts of a case at once; it is opened once
            if case_id not in self._open:
                self._open[case_id] = OpenCase(self.folder, case_id, self.model)
            self._open[case_id].model = self.model  # which may have come since
            self._open.move_to_end(case_id)
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
            return self._open[case_id]


async def _message(request: Request, kind: type[R]) -> R:
    """Returns the body of a request as a record.

    Raises:
        ConfigError: It is none.
    """
    body = await request.body()
    try:
        if len(body) > LARGEST_MESSAGE:
            raise ConfigError(f"a message of {len(body):,} bytes; at most {LARGEST_MESSAGE:,} are taken")
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise ConfigError(f"the message of the page: {explained(error)}; reload the page") from error


def _bounds(text: str) -> Bounds:
    """Returns the box that six numbers of a header name, the first and the last one along each axis.

    Raises:
        ConfigError: They are none.
    """
    match = BOX.fullmatch(text)
    if match is None:
        raise ConfigError("the request names no box; reload the page")
    i0, i1, j0, j1, k0, k1 = map(int, match.groups())
    return (i0, i1), (j0, j1), (k0, k1)
