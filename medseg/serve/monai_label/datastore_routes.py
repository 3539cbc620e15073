"""/datastore/: images and label maps, as clients list, fetch and save them."""

import time
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from medseg.dataset.annotations import FINAL, Authorship, read_annotation, tags
from medseg.dataset.cases import Case
from medseg.errors import SourceError
from medseg.io.nrrd.writer import nrrd_bytes
from medseg.progress import warn
from medseg.serve.datastore import UPLOADS
from medseg.serve.monai_label.answers import BINARY, attached
from medseg.serve.monai_label.uploads import (
    SaveParams,
    file_of,
    name_of,
    names_of_values,
    params_of,
    read_sent,
    received,
    stored,
)
from medseg.serve.refusals import NotFoundError
from medseg.serve.state import ServerState

MOST_BEGUN = 10_000  # cases that people have opened and not saved
LONGEST_WORK = 3600.0  # seconds on a case, after which others get it too
CONVERTED = ".nrrd"  # what images become that are not one file: DICOM, and volumes of a series


class DatastoreEndpoint:
    """Answers requests for images and label maps.

    Args:
        state: What all requests share.
    """

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.begun: dict[tuple[str, str], float] = {}  # when a person began with a case

    @property
    def routes(self) -> list[Route]:
        """The routes of the datastore, for Starlette."""
        return [
            Route("/datastore/", self._all, methods=["GET"]),
            Route("/datastore/", self._add_image, methods=["PUT"]),
            Route("/datastore/image", self._image, methods=["GET"]),
            Route("/datastore/image", self._add_image, methods=["PUT"]),
            Route("/datastore/image/info", self._image_info, methods=["GET"]),
            Route("/datastore/label", self._label, methods=["GET"]),
            Route("/datastore/label", self._save_label, methods=["PUT"]),
            Route("/datastore/label", self._remove_label, methods=["DELETE"]),
            Route("/datastore/label/info", self._label_info, methods=["GET"]),
        ]

    def begin(self, case_id: str, person: str) -> None:
        """Notes that a person begins with a case, from which on its time counts."""
        while len(self.begun) >= MOST_BEGUN:
            del self.begun[next(iter(self.begun))]
        self.begun.setdefault((case_id, person[:200]), time.monotonic())

    def begun_by_others(self, person: str) -> set[str]:
        """Returns the cases that others than a person have begun with lately, and not saved."""
        since = time.monotonic() - LONGEST_WORK
        return {case_id for (case_id, who), began in self.begun.items() if who != person[:200] and began > since}

    def status(self) -> dict[str, Any]:
        """Returns how much is annotated."""
        datastore = self.state.datastore
        done = len(datastore.annotated())
        by_tag = {tag: len(datastore.annotated(tag)) for tag in tags(datastore.folder)}
        return {"total": len(datastore.cases), "completed": done, "label_tags": by_tag, "train": []}

    def image_info(self, case_id: str) -> dict[str, Any]:
        """Returns what a client needs to open an image: its name, and its path where it is a file of this machine."""
        case = self.state.datastore.case(case_id)
        source, name = case.images[0], self._file_name(case)
        info: dict[str, Any] = {"id": case.case_id, "name": name, "ts": int(time.time())}
        if source.patient_id:
            info["PatientID"] = source.patient_id
        if source.kind == "dicom":
            info |= {"SeriesInstanceUID": source.series_uid, "StudyInstanceUID": source.study_uid}
        if self.state.rules.is_local and _is_one_file(case):
            info["path"] = str(source.path.resolve())
        return info

    async def _all(self, request: Request) -> Response:
        output = request.query_params.get("output", "stats")
        if output == "all":
            objects = await run_in_threadpool(self._objects)
            return JSONResponse({"name": self.state.datastore.folder.name, "objects": objects})
        if output == "train":
            drawn = await run_in_threadpool(self.state.datastore.annotated)
            return JSONResponse([{"image": case_id, "label": case_id} for case_id in drawn])
        return JSONResponse(await run_in_threadpool(self.status))

    def _objects(self) -> dict[str, Any]:
        datastore = self.state.datastore
        by_tag = {tag: datastore.annotated(tag) for tag in dict.fromkeys((FINAL, *tags(datastore.folder)))}
        objects: dict[str, Any] = {
            case_id: {"image": {"ext": _ending(self._file_name(case)), "info": self.image_info(case_id)}, "labels": {}}
            for case_id, case in datastore.cases.items()
        }
        for tag, drawn in by_tag.items():
            for case_id in drawn:
                objects[case_id]["labels"][tag] = {"ext": ".nii.gz", "info": self._info_of_label(case_id, tag)}
        return objects

    def _info_of_label(self, case_id: str, tag: str) -> dict[str, Any]:
        # It is not compared with the label map, which would read those of all cases whenever a client lists them.
        try:
            annotation = read_annotation(self.state.datastore.folder, case_id, tag)
        except SourceError as error:  # one damaged record does not hide the other cases
            warn(str(error))
            annotation = None
        if annotation is None:
            return {}
        labels = self.state.datastore.labels
        names = {item.name: item.value for item in labels.items if item.name in annotation.voxels}
        return {**annotation.as_json(), "params": {"label_names": names}}

    async def _image(self, request: Request) -> Response:
        case = self.state.datastore.case(request.query_params.get("image", ""))
        self.begin(case.case_id, request.query_params.get("client_id", ""))
        name = self._file_name(case)
        if _is_one_file(case):
            return FileResponse(case.images[0].path, media_type=BINARY, filename=name)
        if request.method == "HEAD":
            return Response(media_type=BINARY)
        volume = await run_in_threadpool(self.state.datastore.volume, case.case_id)
        content = await run_in_threadpool(nrrd_bytes, volume.array[0], volume.geometry)
        return attached(content, name)

    async def _image_info(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self.image_info, request.query_params.get("image", "")))

    async def _add_image(self, request: Request) -> Response:
        async with received(request) as (form, folder):
            upload = file_of(form, "file")
            if upload is None:
                raise HTTPException(400, "no file came with the request: send the image as 'file'")
            path = await stored(upload, folder, "image")
            sent = name_of(upload.filename or "")
            name = request.query_params.get("image") or sent[: len(sent) - len(_ending(sent))]
            case = await run_in_threadpool(self.state.datastore.add_image, name, path)
        return JSONResponse({"image": case.case_id})

    async def _label(self, request: Request) -> Response:
        name, tag = request.query_params.get("label", ""), request.query_params.get("tag") or FINAL
        datastore = self.state.datastore
        case_id = datastore.case(name).case_id
        path = datastore.label_path(case_id, tag)
        if path is not None:
            return FileResponse(path, media_type=BINARY, filename=path.name)
        label_map = await run_in_threadpool(datastore.label_map, case_id, tag)
        if label_map is None:
            raise NotFoundError(f"{case_id}: has no label map with the tag '{tag[:40]}'")
        content = await run_in_threadpool(nrrd_bytes, label_map, datastore.grid(case_id))
        return attached(content, f"{case_id}{CONVERTED}")

    async def _save_label(self, request: Request) -> Response:
        case = self.state.datastore.case(request.query_params.get("image", ""))
        tag = request.query_params.get("tag") or FINAL
        async with received(request) as (form, folder):
            upload = file_of(form, "label")
            if upload is None:
                raise HTTPException(400, "no file came with the request: send the label map as 'label'")
            params: SaveParams = params_of(form, SaveParams)
            path = await stored(upload, folder, "label")
            person = params.client_id or params.user or ""
            by = self._authorship(case, params, person, request.headers.get("user-agent", ""))
            # It goes on when the client goes away: what was sent whole is saved.
            with anyio.CancelScope(shield=True):
                label_id = await run_in_threadpool(self._save, case, path, params, by, tag)
        self.begun.pop((case.case_id, person), None)
        return JSONResponse({"image": case.case_id, "label": label_id})

    def _save(self, case: Case, path: Path, params: SaveParams, by: Authorship, tag: str) -> str:
        datastore = self.state.datastore
        label_map, own = read_sent(path, case, datastore.grid(case.case_id))
        names = own or names_of_values(label_map, params.label_info, datastore.labels)
        return datastore.save(case.case_id, label_map, names, by, tag).case_id

    def _authorship(self, case: Case, params: SaveParams, person: str, client: str) -> Authorship:
        began = self.begun.get((case.case_id, person)) or self.begun.get((case.case_id, ""))
        model = self.state.models.get(params.model or "")
        return Authorship(
            author=person,
            client=client.split("/")[0] or "MONAI Label",
            model=params.model or None,
            model_fingerprint=None if model is None else model.fingerprint or None,
            seconds=None if began is None else round(time.monotonic() - began, 1),
        )

    async def _remove_label(self, request: Request) -> Response:
        name = request.query_params.get("id") or request.query_params.get("label", "")
        tag = request.query_params.get("tag") or FINAL
        await run_in_threadpool(self.state.datastore.remove_label, name, tag)
        return JSONResponse({})

    async def _label_info(self, request: Request) -> Response:
        case_id = self.state.datastore.case(request.query_params.get("label", "")).case_id
        return JSONResponse(
            await run_in_threadpool(self._info_of_label, case_id, request.query_params.get("tag") or FINAL)
        )

    def _file_name(self, case: Case) -> str:
        return case.images[0].path.name if _is_one_file(case) else f"{case.case_id}{CONVERTED}"


def _is_one_file(case: Case) -> bool:
    source = case.images[0]
    return source.path.is_file() and not source.part and _ending(source.path.name) in UPLOADS


def _ending(name: str) -> str:
    return next((ending for ending in UPLOADS if name.lower().endswith(ending)), "")
