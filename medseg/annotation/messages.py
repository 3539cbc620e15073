"""What the page sends, beside prompts."""

import re
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request

from medseg.annotation.prompt_message import LONGEST_NAME
from medseg.errors import ConfigError
from medseg.interactive.bounds import Bounds
from medseg.records import Record, explained
from medseg.structures import Colour

LARGEST_MESSAGE = 2**26  # bytes of JSON

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


async def message_of(request: Request, kind: type[R]) -> R:
    """Returns the body of a request as a record.

    Args:
        request: The request.
        kind: Of the record.

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


def box_in_header(text: str) -> Bounds:
    """Returns the box that six numbers of a header name, the first and the last one along each axis.

    Args:
        text: Of the header.

    Raises:
        ConfigError: They are none.
    """
    match = BOX.fullmatch(text)
    if match is None:
        raise ConfigError("the request names no box; reload the page")
    i0, i1, j0, j1, k0, k1 = map(int, match.groups())
    return (i0, i1), (j0, j1), (k0, k1)
