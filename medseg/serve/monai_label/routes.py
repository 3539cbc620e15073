"""All routes of MONAI Label's REST API."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from medseg.records import explained, parse_json
from medseg.serve.access import token_fits
from medseg.serve.background_training import USUAL_TIME
from medseg.serve.models import ServedModel
from medseg.serve.monai_label.datastore_routes import DatastoreEndpoint
from medseg.serve.monai_label.image_sessions import ImageSessions
from medseg.serve.monai_label.infer import POINTS, STROKES, InferEndpoint
from medseg.serve.refusals import NotFoundError
from medseg.serve.state import ServerState
from medseg.version import VERSION

LARGEST_PARAMS = 2**20
MOST_LINES = 2000
TIMES = ["10m", "30m", "1h", "4h"]

# In which place of 3D Slicer's module, and of OHIF's plugin, a model appears.
KINDS = {POINTS: "deepgrow", STROKES: "scribbles"}


class TrainParams(BaseModel):
    """The parameters of a training; those of other trainers are not looked at."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(None, max_length=200)
    max_time: str = Field(USUAL_TIME, max_length=20)


class MonaiLabel:
    """MONAI Label's REST API over the models and images of a server.

    Args:
        state: What all requests share.
    """

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.images = ImageSessions(state.rules.largest_body)
        self.datastore = DatastoreEndpoint(state)
        self.infer = InferEndpoint(state, self.images)
        state.upkeep.append(self.images.forget_expired)

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes of MONAI Label's API, for Starlette.

        The paths are those that clients call, with and without a slash at their ends.
        """
        routes = [
            Route("/auth/", self._auth, methods=["GET"]),
            Route("/auth/token", self._token, methods=["POST"]),
            Route("/auth/token/valid", self._token_is_valid, methods=["GET"]),
            Route("/info/", self._info, methods=["GET"]),
            Route("/activelearning/{strategy}", self._next, methods=["POST"]),
            Route("/train/", self._training, methods=["GET"]),
            Route("/train/", self._train, methods=["POST"]),
            Route("/train/", self._stop, methods=["DELETE"]),
            Route("/train/{model}", self._train, methods=["POST"]),
            Route("/logs/", self._logs, methods=["GET"]),
            *self.datastore.routes,
            *self.images.routes,
            *self.infer.routes,
        ]
        without = [
            Route(route.path.rstrip("/"), route.endpoint, methods=list(route.methods or ()))
            for route in routes
            if route.path.endswith("/")
        ]
        return [*routes, *without]

    def info(self) -> dict[str, Any]:
        """Returns what clients show: models, labels, strategies, trainers and how much is annotated.

        There is no "config", which the module of 3D Slicer takes for that of an outdated server.
        """
        state = self.state
        models = list(state.models.values())
        of_models = [name for model in models for name in model.label_names]
        names = dict.fromkeys([*state.datastore.labels.names, *of_models])
        trainers = [model.name for model in models] or [state.datastore.folder.resolve().name]
        return {
            "name": f"medseg: {state.datastore.folder.resolve().name}",
            "description": "medseg, which speaks MONAI Label's REST API",
            "version": VERSION,
            "labels": list(names),
            "models": {name: described for model in models for name, described in _described(model)},
            "trainers": {
                name: {"description": "medseg train --init", "config": {"max_time": TIMES}, "labels": list(names)}
                for name in trainers
            },
            "strategies": {
                name: {"description": (choose.__doc__ or "").split("\n")[0], "config": {}}
                for name, choose in state.strategies.items()
            },
            "scoring": {},
            "train_stats": {name: self._train_stats(name) for name in trainers},
            "datastore": self.datastore.status(),
        }

    def _train_stats(self, name: str) -> dict[str, Any]:
        """Returns how far the training of a model has come."""
        task = self.state.training.task
        rows = task.log if task is not None and task.model == name else []
        if task is None or not rows:
            return {}
        dice = [float(row["val_dice"]) for row in rows if row.get("val_dice")]
        stats = {"epoch": int(rows[-1]["epoch"]), "best_metric": max(dice, default=0.0)}
        return stats if task.status == "RUNNING" else {**stats, "total_time": rows[-1]["seconds"]}

    async def _auth(self, request: Request) -> Response:
        return JSONResponse({"enabled": self.state.rules.token is not None})

    async def _token(self, request: Request) -> Response:
        """Gives the token to who knows it already, as a password: so 3D Slicer asks its user for it."""
        async with request.form(max_fields=20, max_part_size=1000) as form:
            password = str(form.get("password") or "")
        if not await token_fits(password, self.state.rules):
            raise HTTPException(403, "the password is not the server's token")
        return JSONResponse({"access_token": self.state.rules.token, "token_type": "bearer"})

    async def _token_is_valid(self, request: Request) -> Response:
        return JSONResponse({"username": "user"})  # else it would not have come here

    async def _info(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self.info))

    async def _next(self, request: Request) -> Response:
        params = await _json(request)
        person = params.get("client_id")
        person, strategy = person if isinstance(person, str) else "", request.path_params["strategy"].replace("+", " ")
        others = self.datastore.begun_by_others(person)
        case_id = await run_in_threadpool(self.state.next_case, strategy, others)
        if case_id is None:
            return JSONResponse({})
        self.datastore.begin(case_id, person)
        return JSONResponse(await run_in_threadpool(self.datastore.image_info, case_id))

    async def _training(self, request: Request) -> Response:
        training = self.state.training
        only_running = request.query_params.get("check_if_running", "").lower() in ("true", "1")
        if training.task is None or (only_running and not training.is_running):
            raise NotFoundError("no training is under way" if only_running else "nothing was trained yet")
        return JSONResponse(training.task.as_json())

    async def _train(self, request: Request) -> Response:
        content = await _json(request)
        name = request.path_params.get("model", "").replace("+", " ")
        # Some clients send the parameters of each model below its name.
        own = content.get(name) if isinstance(content.get(name), dict) else content
        try:
            params = TrainParams.model_validate(own)
        except ValidationError as error:
            raise HTTPException(400, explained(error)) from error
        model = name or params.model or next(iter(self.state.models), self.state.datastore.folder.resolve().name)
        training = self.state.training
        if training.is_running:
            raise HTTPException(429, "a training is under way; stop it first, or wait")
        return JSONResponse((await run_in_threadpool(training.start, model, params.max_time)).as_json())

    async def _stop(self, request: Request) -> Response:
        task = await run_in_threadpool(self.state.training.stop)
        if task is None:
            raise NotFoundError("nothing was trained yet")
        return JSONResponse(task.as_json())

    async def _logs(self, request: Request) -> Response:
        asked = request.query_params.get("lines", "300")
        number = min(int(asked), MOST_LINES) if asked.isdecimal() and len(asked) < 6 else 300
        return PlainTextResponse("\n".join(list(self.state.log.lines)[-number:]) + "\n")


def _described(model: ServedModel) -> list[tuple[str, dict[str, Any]]]:
    """Returns a model as clients know it; one that takes prompts is three, since they ask in another way for each."""
    labels = {name: number for number, name in enumerate(model.label_names, start=1)}
    of_all = {"labels": labels, "dimension": 3, "config": {}}
    description = f"{model.name}: {', '.join(labels)}"[:300]
    found = [(model.name, {"type": "segmentation", "description": description, **of_all})]
    if model.is_promptable:
        found += [
            (f"{model.name}{end}", {"type": kind, "description": f"{model.name}, prompted", **of_all})
            for end, kind in KINDS.items()
        ]
    return found


async def _json(request: Request) -> dict[str, Any]:
    """Returns the JSON object of a request; an empty one where there is no body.

    Raises:
        HTTPException: It is none: 400.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_PARAMS:
            raise HTTPException(413, f"more than {LARGEST_PARAMS:,} bytes of parameters")
    try:
        content = parse_json(body.decode()) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"no JSON ({str(error)[:200]})") from error
    if not isinstance(content, dict):
        raise HTTPException(400, "parameters have to be a JSON object {…}")
    return content
