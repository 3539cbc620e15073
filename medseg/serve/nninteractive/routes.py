"""The routes of nnInteractive's protocol: each client has a lease, an image, and prompts on one object."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio.to_thread
import psutil
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from medseg.architecture import PROMPT_CHANNELS
from medseg.errors import MedsegError
from medseg.interactive.object_mask import MaskChange
from medseg.interactive.prompted_object import MOST_STEPS_BACK
from medseg.interactive.session import InteractiveSession
from medseg.serve.models import ServedModel
from medseg.serve.nninteractive.array_place import ArrayPlaces
from medseg.serve.nninteractive.leases import Lease, Leases
from medseg.serve.nninteractive.messages import (
    ImageMeta,
    SentPrompt,
    TargetBuffer,
    as_record,
    body_as_json,
    changed_part,
    meta_of,
    origin_of,
)
from medseg.serve.nninteractive.packed_array import unpack
from medseg.serve.refusals import NotFoundError
from medseg.serve.state import ServerState
from medseg.version import VERSION
from medseg.volume import Array

LEASE = "X-Lease-Token"
PROTOCOL = "2.5.0"  # the version of nnInteractive whose protocol this is
EXPANSION = 8  # of what is sent: an array may have so many times the bytes of the largest body
PART_OF_MEMORY = 4  # that is free: no array takes more of it
STROKE = [2, 2, 2]  # voxels


class NnInteractive:
    """nnInteractive's protocol, answered by the first model that takes prompts.

    Args:
        state: What all requests share.
        array_orientation: Where the axes of arrays point that are none of the folder's images.
        leases: The sessions of clients.

    Raises:
        ConfigError: The orientation is none.
    """

    def __init__(self, state: ServerState, array_orientation: str = "SPL", leases: Leases | None = None) -> None:
        self.state, self.leases = state, leases or Leases()
        self.places = ArrayPlaces(state.datastore, array_orientation)
        state.upkeep.append(self.leases.end_old)
        self.largest_array = EXPANSION * state.rules.largest_body

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes of nnInteractive's protocol, for Starlette."""
        answers: dict[str, Callable[[Request], Any]] = {
            "/claim": self._claim,
            "/release": self._release,
            "/heartbeat": self._heartbeat,
            "/set_image": self._set_image,
            "/set_target_buffer": self._set_target_buffer,
            "/set_do_autozoom": self._nothing,
            "/reset_interactions": self._reset,
            "/undo": self._undo,
            "/predict": self._predict,
            "/add_point_interaction": self._add_point,
            "/add_bbox_interaction": self._add_box,
            "/add_scribble_interaction": self._add_scribble,
            "/add_lasso_interaction": self._add_lasso,
            "/add_initial_seg_interaction": self._add_initial_mask,
        }
        return [
            Route("/capabilities", self._capabilities, methods=["GET"]),
            Route("/lease_status", self._lease_status, methods=["GET"]),
            *(Route(path, answer, methods=["POST"]) for path, answer in answers.items()),
        ]

    @property
    def model(self) -> ServedModel:
        """The model that segments by prompts.

        Raises:
            NotFoundError: None takes prompts.
        """
        for model in self.state.models.values():
            if model.is_promptable:
                return model
        raise NotFoundError("no model that is served takes prompts; train one with 'medseg train --prompts'")

    async def _claim(self, request: Request) -> Response:
        model = self.model
        answer = {
            "lease_token": self.leases.claim(),
            "idle_timeout_seconds": self.leases.idle,
            "liveness_timeout_seconds": self.leases.liveness,
            "max_sessions": self.leases.most,
        }
        # Whoever begins a session sends an image soon: by then the model is loaded.
        return JSONResponse(answer, background=BackgroundTask(_load, model))

    async def _capabilities(self, request: Request) -> Response:
        model = self.model
        plan = getattr(model.record, "plan", None)
        of_kind = {
            name: [PROMPT_CHANNELS.index(f"{channel} inside"), PROMPT_CHANNELS.index(f"{channel} outside")]
            for name, channel in (("points", "points"), ("bbox", "box"), ("lasso", "box"), ("scribble", "scribbles"))
        }
        kinds = ("points", "bbox2d", "bbox3d", "scribble", "lasso")
        answer = {
            "supported_interactions": dict.fromkeys(kinds, True),
            "channel_mapping": {"prev_seg": PROMPT_CHANNELS.index("previous mask"), **of_kind},
            "num_interaction_channels": len(PROMPT_CHANNELS),
            "supports_initial_label": True,
            "supports_zero_shot_label_refinement": False,
            "preferred_scribble_thickness": STROKE,
            "interaction_decay": None if plan is None or plan.prompts is None else plan.prompts.decay,
            "patch_size": None if plan is None else list(plan.patch_size),
            "do_autozoom": True,
            "inference_session_version": PROTOCOL,
            "license": f"{model.name}, served by medseg {VERSION}",
            "supports_undo": True,
        }
        return JSONResponse(answer)

    async def _release(self, request: Request) -> Response:
        self.leases.release(request.headers.get(LEASE))
        return JSONResponse({"released": True})

    async def _heartbeat(self, request: Request) -> Response:
        lease = self.leases.get(request.headers.get(LEASE), acts=False)
        return JSONResponse({"remaining_seconds": self.leases.remaining(lease)})

    async def _lease_status(self, request: Request) -> Response:
        lease = self.leases.get(request.headers.get(LEASE), acts=False, shows_life=False)
        idle = {"idle_timeout_seconds": self.leases.idle}
        return JSONResponse({"remaining_seconds": self.leases.remaining(lease), **idle})

    async def _set_image(self, request: Request) -> Response:
        lease = self._lease(request)
        meta = as_record(meta_of(request).get("image_properties") or {}, ImageMeta)
        async with lease.lock:
            body = await request.body()
            # Not in the queue of the device: others can go on meanwhile.
            lease.session = await anyio.to_thread.run_sync(self._begin, body, meta.spacing or (1.0, 1.0, 1.0))
            lease.steps = 0
        return JSONResponse({"original_image_shape": list(lease.session.image.array.shape)})

    def _begin(self, body: bytes, spacing: tuple[float, float, float]) -> InteractiveSession:
        array = self._array(body)
        if array.ndim != 4:
            raise HTTPException(400, f"the image has {array.ndim} axes; send (channel, x, y, z)")
        model, volume = self.model, self.places.volume(array, spacing)
        model.check_fits(volume.geometry)
        return InteractiveSession(model.promptable(), volume)

    async def _set_target_buffer(self, request: Request) -> Response:
        lease = self._lease(request)
        buffer = as_record(await body_as_json(request), TargetBuffer)
        shape = self._session(lease).image.geometry.shape
        if buffer.shape != shape:
            raise HTTPException(400, f"the mask has {buffer.shape} voxels, the image {shape}")
        lease.dtype = buffer.dtype
        return JSONResponse({})

    async def _nothing(self, request: Request) -> Response:
        """The zoom follows from the object: there is nothing to set."""
        self._lease(request)
        return JSONResponse({})

    async def _reset(self, request: Request) -> Response:
        lease = self._lease(request)
        async with lease.lock:
            if lease.session is not None:
                lease.session.reset()
            lease.steps = 0
        return JSONResponse({})

    async def _undo(self, request: Request) -> Response:
        lease = self._lease(request)
        async with lease.lock:
            session = self._session(lease)
            if not lease.steps:
                return changed_part(None, lease.dtype)
            lease.steps -= 1
            return changed_part(await anyio.to_thread.run_sync(session.undo), lease.dtype)

    async def _predict(self, request: Request) -> Response:
        return await self._answer(request, lambda session, prompt: session.predict(), SentPrompt())

    async def _add_point(self, request: Request) -> Response:
        return await self._add_place(request, "coordinates", InteractiveSession.add_point)

    async def _add_box(self, request: Request) -> Response:
        return await self._add_place(request, "bbox_coords", InteractiveSession.add_box)

    async def _add_place(self, request: Request, field: str, add: Callable[..., MaskChange]) -> Response:
        """Adds a prompt that is said by its coordinates, which a field of the message has."""
        prompt = as_record(await body_as_json(request), SentPrompt)
        place = getattr(prompt, field)
        if place is None:
            raise HTTPException(400, f"'{field}' is missing")
        return await self._answer(
            request,
            lambda session, prompt: add(session, place, prompt.include_interaction, predict=prompt.run_prediction),
            prompt,
        )

    async def _add_scribble(self, request: Request) -> Response:
        return await self._add_mask(request, InteractiveSession.add_scribble)

    async def _add_lasso(self, request: Request) -> Response:
        return await self._add_mask(request, InteractiveSession.add_lasso)

    async def _add_mask(self, request: Request, add: Callable[..., MaskChange]) -> Response:
        prompt = as_record(meta_of(request), SentPrompt)
        mask = await anyio.to_thread.run_sync(self._array, await request.body())
        origin = origin_of(prompt, mask)
        return await self._answer(
            request,
            lambda session, prompt: add(
                session, mask != 0, prompt.include_interaction, predict=prompt.run_prediction, origin=origin
            ),
            prompt,
        )

    async def _add_initial_mask(self, request: Request) -> Response:
        prompt = as_record({"run_prediction": False, **meta_of(request)}, SentPrompt)
        mask = await anyio.to_thread.run_sync(self._array, await request.body())
        return await self._answer(
            request,
            lambda session, prompt: session.add_initial_mask(mask != 0, predict=prompt.run_prediction),
            prompt,
        )

    async def _answer(
        self,
        request: Request,
        add: Callable[[InteractiveSession, SentPrompt], MaskChange],
        prompt: SentPrompt,
    ) -> Response:
        """Adds a prompt, and answers with the part of the mask that it changes."""
        lease = self._lease(request)
        async with lease.lock:  # another image may come first
            change = await self.state.queue.run(add, self._session(lease), prompt)
            lease.steps = min(lease.steps + 1, MOST_STEPS_BACK)
            return await anyio.to_thread.run_sync(changed_part, change if prompt.run_prediction else None, lease.dtype)

    def _lease(self, request: Request) -> Lease:
        return self.leases.get(request.headers.get(LEASE))

    def _session(self, lease: Lease) -> InteractiveSession:
        if lease.session is None:
            raise HTTPException(400, "there is no image yet; send it by /set_image")
        return lease.session

    def _array(self, body: bytes) -> Array:
        try:
            return unpack(body, min(self.largest_array, psutil.virtual_memory().available // PART_OF_MEMORY))
        except ValueError as error:
            raise HTTPException(400, f"the array cannot be read: {error}") from error


def _load(model: ServedModel) -> None:
    with suppress(MedsegError):  # who sends an image is told why
        model.promptable()
