"""POST /infer/MODEL: a label map of an image, by a model alone or with a person's prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from medseg.dataset.cases import Case
from medseg.dataset.reading import read_images
from medseg.errors import ModelError
from medseg.io.discover import source_of
from medseg.io.read import read_geometry
from medseg.serve.models import ServedModel
from medseg.serve.monai_label.answers import InferAnswer
from medseg.serve.monai_label.image_sessions import ImageSessions
from medseg.serve.monai_label.uploads import (
    SCRIBBLES,
    InferParams,
    file_of,
    params_of,
    read_sent,
    received,
    stored,
)
from medseg.serve.prompt_sessions import PromptSessions, SentPrompts, SessionKey
from medseg.serve.state import ServerState
from medseg.volume import GRID_TOLERANCE, Volume

# One promptable model is three for these clients, which ask in another way for each.
POINTS, STROKES = "-points", "-scribbles"


class AskedImage(NamedTuple):
    """The image of a request.

    Attributes:
        case: Where it lies.
        key: What it is known by; empty for one that came with the request.
        channels: The names of its channels.
    """

    case: Case
    key: str
    channels: Sequence[str] = ()


class InferEndpoint:
    """Answers requests for label maps.

    Args:
        state: What all requests share.
        images: Images that clients sent without adding them to the folder.
    """

    def __init__(self, state: ServerState, images: ImageSessions) -> None:
        self.state, self.images = state, images
        self.sessions = PromptSessions()
        state.upkeep.append(lambda: state.queue.submit(self.sessions.forget_old))

    @property
    def routes(self) -> list[Route]:
        """The routes of inference, for Starlette."""
        return [Route("/infer/{model:path}", self.infer, methods=["POST"])]

    async def infer(self, request: Request) -> Response:
        """Returns a label map as a file, the parameters as JSON, or both in a form."""
        model, kind = self._model(request.path_params["model"].strip("/").replace("+", " "))
        async with received(request) as (form, folder):
            params: InferParams = params_of(form, InferParams)
            asked = await self._asked(request, form, folder)
            upload = file_of(form, "label")
            label = None if upload is None or kind != STROKES else await stored(upload, folder, "label")
            if not kind:
                answer = await self.state.queue.run(self._segment, model, asked)
            else:
                answer = await self.state.queue.run(self._prompt, model, asked, params, label)
        return answer.response(params, request.query_params.get("output", ""))

    def _model(self, name: str) -> tuple[ServedModel, str]:
        """Returns a model, and in which way it is asked: "" for by itself, POINTS or STROKES."""
        for kind in (POINTS, STROKES):
            known = self.state.models.get(name.removesuffix(kind))
            if name not in self.state.models and name.endswith(kind) and known is not None and known.is_promptable:
                return known, kind
        return self.state.model(name), ""

    async def _asked(self, request: Request, form: FormData, folder: Path) -> AskedImage:
        image, session_id = (request.query_params.get(key, "") for key in ("image", "session_id"))
        upload = file_of(form, "file")
        if upload is not None:
            path = await stored(upload, folder, "image")
            return AskedImage(Case("image", (source_of(path),)), "")
        if session_id:
            return AskedImage(self.images.case(session_id), f"session {session_id}")
        if not image:
            raise HTTPException(400, "no image is asked about: give image=ID, session_id=ID or a file")
        case = self.state.datastore.case(image)
        return AskedImage(case, case.case_id, self.state.datastore.channels)

    def _segment(self, model: ServedModel, asked: AskedImage) -> InferAnswer:
        prediction = model.segment(asked.case, asked.channels)
        volume = prediction.label_map
        encoded = model.record.labels.encode(volume.label_map)
        names = model.label_names
        # 3D Slicer gives names in the order of the values that are there.
        present = [names[value - 1] for value in np.unique(encoded).tolist() if value]
        params = {
            "label_names": present,
            "volumes_ml": prediction.volumes_ml,
            "estimated_dice": prediction.estimated_dice,
            "review": prediction.review,
            "review_reasons": list(prediction.review_reasons),
            "warnings": list(prediction.warnings),
            "seconds": prediction.stages,
        }
        return InferAnswer(encoded, volume.geometry, params)

    def _prompt(self, model: ServedModel, asked: AskedImage, params: InferParams, label: Path | None) -> InferAnswer:
        name = params.label or params.selected_label_name or "object"
        prompts = _prompts(params) if label is None else _strokes(params, label, asked.case)
        if prompts.are_none:
            raise ModelError(f"{model.name}: nothing is prompted yet; place a point inside of the structure")
        key = SessionKey(model.name, asked.key, params.client_id or "", name)
        mask, grid = self.sessions.mask(key, model, lambda: self._image(model, asked), prompts)
        return InferAnswer(mask.astype(np.uint8), grid, {"label_names": [name] if mask.any() else []})

    def _image(self, model: ServedModel, asked: AskedImage) -> Volume:
        lent = not asked.key or asked.key.startswith("session ")
        image = read_images(asked.case, GRID_TOLERANCE) if lent else self.state.datastore.volume(asked.key)
        return model.seen(asked.case, image, asked.channels)


def _prompts(params: InferParams) -> SentPrompts:
    points = [(index, True) for index in params.foreground] + [(index, False) for index in params.background]
    roi = None
    if len(params.roi) == 6:
        x0, x1, y0, y1, z0, z1 = params.roi
        roi = ((min(x0, x1), max(x0, x1) + 1), (min(y0, y1), max(y0, y1) + 1), (min(z0, z1), max(z0, z1) + 1))
    return SentPrompts(tuple(points), roi)


def _strokes(params: InferParams, path: Path, case: Case) -> SentPrompts:
    """Returns what was drawn over; 3D Slicer sends all segments, of which two are the strokes."""
    drawn, own = read_sent(path, case, read_geometry(case.images[0]))
    values = {name: value for value, name in own.items()}
    values |= {each.name: each.value for each in params.label_info if each.value is not None}
    masks = [drawn == values[name] if name in values else None for name in SCRIBBLES]
    foreground, background = (None if mask is None or not mask.any() else mask for mask in masks)
    return SentPrompts(foreground=foreground, background=background)
