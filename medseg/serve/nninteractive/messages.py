"""What nnInteractive's clients send, checked, and what they get: JSON, in the body or in a header beside an array."""

from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from medseg.interactive.object_mask import MaskChange
from medseg.records import explained, parse_json
from medseg.serve.nninteractive.packed_array import pack
from medseg.volume import Array, Shape3

META = "X-Meta"
BINARY = "application/octet-stream"
LARGEST_META = 2**16

M = TypeVar("M", bound=BaseModel)
Span = tuple[int, int]
Spans = tuple[Span, Span, Span]
Edge = Annotated[float, Field(gt=0, lt=1e6)]


class ImageMeta(BaseModel):
    """What is said of an image."""

    model_config = ConfigDict(extra="ignore")

    spacing: tuple[Edge, Edge, Edge] | None = None


class TargetBuffer(BaseModel):
    """How the client keeps the mask."""

    model_config = ConfigDict(extra="ignore")

    shape: tuple[int, int, int]
    dtype: Literal["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


class SentPrompt(BaseModel):
    """One prompt, or how what is sent beside it is to be taken."""

    model_config = ConfigDict(extra="ignore")

    include_interaction: bool = True
    run_prediction: bool = True
    coordinates: tuple[float, float, float] | None = None
    bbox_coords: Spans | None = None
    interaction_bbox: Spans | None = None


def origin_of(prompt: SentPrompt, mask: Array) -> Shape3:
    """Returns the first voxel of a mask in its image.

    Raises:
        HTTPException: The mask has another shape than what is said of it: 400.
    """
    if prompt.interaction_bbox is None:
        return 0, 0, 0
    (x, x_end), (y, y_end), (z, z_end) = prompt.interaction_bbox
    if mask.shape != (x_end - x, y_end - y, z_end - z):
        raise HTTPException(400, f"the mask has {mask.shape} voxels, which 'interaction_bbox' does not")
    return x, y, z


def changed_part(change: MaskChange | None, dtype: str) -> Response:
    """Returns the answer with the part of a mask that has changed.

    Args:
        change: None where nothing was done.
        dtype: In which the client wants masks.
    """
    if change is None or change.is_empty:
        meta: dict[str, Any] = {"ran_prediction": change is not None, "bbox": None}
        return Response(b"", media_type=BINARY, headers={META: to_json(meta).decode()})
    mask = change.mask.astype(np.dtype(dtype))
    bounds = [[int(low), int(high)] for low, high in change.bounds]
    meta = {"ran_prediction": True, "bbox": bounds, "dtype": dtype, "shape": list(mask.shape)}
    return Response(pack(mask), media_type=BINARY, headers={META: to_json(meta).decode()})


def meta_of(request: Request) -> dict[str, Any]:
    """Returns what a header says beside an array.

    Raises:
        HTTPException: It is no JSON object: 400.
    """
    return _object(request.headers.get(META, "{}")[:LARGEST_META], META)


async def body_as_json(request: Request) -> dict[str, Any]:
    """Returns the JSON object that was sent.

    Raises:
        HTTPException: It is none: 400.
    """
    return _object((await request.body()).decode("utf-8", "replace"), "the request")


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        content = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{what}: no JSON ({str(error)[:200]})") from error
    if not isinstance(content, dict):
        raise HTTPException(400, f"{what}: has to be a JSON object")
    return content


def as_record(content: dict[str, Any], kind: type[M]) -> M:
    """Returns what was sent as a record.

    Raises:
        HTTPException: It is wrong: 400.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise HTTPException(400, explained(error)) from error
