"""The page and what it asks for, below ``/annotate/``."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib.resources import files
from math import prod
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from medseg.annotation.drawing import Change
from medseg.annotation.folder import AnnotatedFolder
from medseg.annotation.messages import (
    FirstMaskMessage,
    Interpolation,
    NewLabel,
    TrainingMessage,
    box_in_header,
    message_of,
)
from medseg.annotation.next_case import STRATEGIES, CaseChooser
from medseg.annotation.open_case import OpenCase
from medseg.annotation.open_cases import OpenCases
from medseg.annotation.prompt_message import PromptMessage
from medseg.annotation.rounds import Rounds
from medseg.errors import ConfigError
from medseg.interactive.bounds import shape_of
from medseg.serve.models import ServedModel
from medseg.serve.refusals import NotFoundError
from medseg.serve.state import ServerState
from medseg.viewer.server import POLICY

TRAINED = "trained-here"  # the name of a model where none was given
BINARY = "application/octet-stream"
BOUNDS_HEADER = "X-Bounds"
# Which label map a page shows, or has now; and which one it was before a change, so that pages see what they missed.
VERSION_HEADER, BEFORE_HEADER = "X-Version", "X-Version-Before"

PAGES = {
    "": ("annotate.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "annotate.js": ("annotate.js", "text/javascript"),
    "drawing.js": ("drawing.js", "text/javascript"),
    "slices.js": ("slices.js", "text/javascript"),
    "niivue.js": ("niivue/niivue.umd.js", "text/javascript"),
}


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
        self.cases = OpenCases(folder)

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
        choice = await run_in_threadpool(self.chooser.next_case, strategy, request.query_params.get("shown", ""))
        return JSONResponse(None if choice is None else choice._asdict())

    async def _training(self, request: Request) -> Response:
        return JSONResponse((await run_in_threadpool(self.rounds.told)).as_json())

    async def _train(self, request: Request) -> Response:
        message = await message_of(request, TrainingMessage)
        if message.start:
            name = TRAINED if self.model is None else self.model.name
            await run_in_threadpool(self.rounds.start, name, self.max_time)
        else:
            await run_in_threadpool(self.rounds.stop)
        return await self._training(request)

    async def _add_label(self, request: Request) -> Response:
        message = await message_of(request, NewLabel)
        await run_in_threadpool(self.folder.add_label, message.name, message.colour)
        return await self._state(request)

    async def _scene(self, request: Request) -> Response:
        async with self._case(request) as case:
            return JSONResponse(await run_in_threadpool(case.scene))

    async def _image(self, request: Request) -> Response:
        async with self._case(request) as case:
            return Response(await run_in_threadpool(case.image_file), media_type=BINARY)

    async def _drawing(self, request: Request) -> Response:
        def read() -> tuple[bytes, str]:
            with case.lock:
                return case.drawing_file(), case.version

        async with self._case(request) as case:
            content, version = await run_in_threadpool(read)
        return Response(content, media_type=BINARY, headers={VERSION_HEADER: version})

    async def _edit(self, request: Request) -> Response:
        bounds = box_in_header(request.headers.get(BOUNDS_HEADER, ""))
        body, shape = await request.body(), shape_of(bounds)
        if min(shape) < 1 or len(body) != prod(shape):
            raise ConfigError(f"the box {bounds} has not {len(body)} voxels; reload the page")
        values = np.frombuffer(body, np.uint8).reshape(shape, order="F")
        async with self._case(request) as case:
            return await _changed(case, run_in_threadpool, lambda: case.edit(bounds, values))

    async def _prompt(self, request: Request) -> Response:
        message = await message_of(request, PromptMessage)
        async with self._case(request) as case:
            return await _changed(case, self.state.queue.run, lambda: case.prompt(message))

    async def _interpolate(self, request: Request) -> Response:
        message = await message_of(request, Interpolation)
        async with self._case(request) as case:
            return await _changed(case, run_in_threadpool, lambda: case.interpolate(message.label, message.axis))

    async def _first_mask(self, request: Request) -> Response:
        message = await message_of(request, FirstMaskMessage)
        async with self._case(request) as case:
            predicted = await self.state.queue.run(case.predicted)
            return await _changed(case, run_in_threadpool, lambda: case.first_mask(predicted, message.keeps_drawn))

    async def _undo(self, request: Request) -> Response:
        def undo() -> Change | None:
            case.check(request.headers.get(VERSION_HEADER))
            return case.undo()

        async with self._case(request) as case:
            return await _changed(case, run_in_threadpool, undo)

    async def _save(self, request: Request) -> Response:
        def save() -> None:
            case.check(request.headers.get(VERSION_HEADER))
            case.save(self.annotator)

        async with self._case(request) as case:
            versions = (await _changed(case, run_in_threadpool, save)).headers
        described = await self._state(request)
        described.headers.update({name: versions[name] for name in (BEFORE_HEADER, VERSION_HEADER)})
        return described

    def _case(self, request: Request) -> AbstractAsyncContextManager[OpenCase]:
        return self.cases.of(request.path_params["case"], self.model)


async def _changed(
    case: OpenCase, run: Callable[..., Awaitable[tuple[Change | None, str, str]]], function: Callable[[], Change | None]
) -> Response:
    """Returns what a function changes of a case, as the voxels of a box, and the versions before and after it.

    Args:
        case: The case.
        run: Runs a function on a thread that may wait.
        function: Changes the case.
    """

    def change() -> tuple[Change | None, str, str]:
        with case.lock:
            before = case.version
            return function(), before, case.version

    changed, before, after = await run(change)
    headers = {BEFORE_HEADER: before, VERSION_HEADER: after}
    if changed is None or 0 in shape_of(changed.bounds):
        return Response(status_code=204, headers=headers)
    headers[BOUNDS_HEADER] = ",".join(str(end) for pair in changed.bounds for end in pair)
    return Response(changed.values.tobytes(order="F"), media_type=BINARY, headers=headers)
