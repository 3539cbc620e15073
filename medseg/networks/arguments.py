"""What one network alone knows: ``network.arguments`` of the config."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medseg.architecture import Architecture
from medseg.errors import ConfigError, did_you_mean
from medseg.records import shown_value


class Arguments(BaseModel):
    """The arguments of one network; the base, and those of networks that have none.

    Every field needs a default, and a docstring, which 'medseg networks NAME' shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


A = TypeVar("A", bound=Arguments)


def arguments_of(architecture: Architecture, kind: type[A]) -> A:
    """Returns ``architecture.arguments`` with the defaults of ``kind``.

    Args:
        architecture: What the plan says of the network.
        kind: The arguments that this network takes.

    Raises:
        ConfigError: An argument is unknown, or its value is not allowed. The error names the key and what could stand
            there.
    """
    try:
        return kind.model_validate(architecture.arguments)
    except ValidationError as error:
        raise ConfigError(_explain(error, kind, architecture.name)) from None


def _explain(error: ValidationError, kind: type[Arguments], network: str) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(key, kind.model_fields)
        return f"network.arguments.{key}: {network} has no such argument{hint or ', and no others'}"
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"network.arguments.{key} of {network} cannot be {shown_value(first['input'])}: {message}"
