"""What the code says of a network: its docstrings, and its arguments."""

import inspect
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import PlainSerializer
from pydantic_core import to_jsonable_python

from medseg.networks.entries import Entry
from medseg.networks.monai_networks import FILLED_IN, PREFIX, AnyArguments, segmentation_networks
from medseg.records import Record

# Sections that 'medseg networks' leaves out: they are for those who call a network, not for those who choose one.
SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Example:", "Examples:")


def _plain(value: object) -> Any:
    """Returns a value as JSON has it; as text where JSON has no form for it."""
    return to_jsonable_python(value, fallback=str)


class Argument(Record):
    """An argument of a network; its ``default`` is "needed" where there is none."""

    name: str
    default: Annotated[Any, PlainSerializer(_plain, when_used="json")]
    choices: tuple[str, ...]
    about: str


def about_network(entry: Entry) -> str:
    """Returns what the code says of a network: the docstring of its file, and its own without arguments and errors."""
    build = entry.build if entry.plugin is None else entry.plugin.build
    texts = [inspect.getdoc(inspect.getmodule(build)), inspect.getdoc(build)]
    paragraphs = "\n\n".join(text.strip() for text in texts if text).split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs if not each.startswith(SECTIONS))


def network_arguments(name: str, entry: Entry) -> Iterator[Argument]:
    """Yields the arguments that ``network.arguments`` may hold for a network."""
    if entry.arguments is AnyArguments:
        known = segmentation_networks().get(name.removeprefix(PREFIX))
        kind = known if entry.plugin is None else entry.plugin.build
        signature = {} if kind is None else inspect.signature(kind).parameters
        for key, parameter in signature.items():
            if key not in (*FILLED_IN, "architecture") and parameter.kind != parameter.VAR_KEYWORD:
                needed = parameter.default is parameter.empty
                default = "needed" if needed else parameter.default
                yield Argument(name=key, default=default, choices=(), about="")
        return
    for key, field in entry.arguments.model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        about = " ".join((field.description or "").split())
        yield Argument(name=key, default=field.default, choices=tuple(map(str, choices)), about=about)
