"""How a command shows its help: texts as they are written, whatever marks of Markdown are in them."""

import re
from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand

CODE = " " * 4  # what Markdown takes for code, as the examples are

_MARKS = re.compile(r"[\\`*_\[\]<>~|&]|^\s*(?:[-+#=]|\d+(?=[.)]))", re.MULTILINE)


def command_name(function: Callable[..., None]) -> str:
    """Returns how a command is called: as its function with hyphens, except where that is a keyword of Python."""
    return function.__name__.removesuffix("_model").replace("_", "-")


def escaped(text: str) -> str:
    """Returns ``text`` in Markdown that is shown as ``text``, except for lines of code, which are shown so anyway."""
    return "\n".join(line if line.startswith(CODE) else _MARKS.sub(_escape, line) for line in text.split("\n"))


def _escape(mark: re.Match[str]) -> str:
    found = mark.group()
    return f"{found}\\" if found[-1].isdigit() else f"{found[:-1]}\\{found[-1]}"


class Command(TyperCommand):
    """A command whose help is shown in Markdown, so that examples stay together, but whose texts are plain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = self.help and escaped(self.help)
        for parameter in self.params:
            text = getattr(parameter, "help", None)
            if text:
                parameter.help = escaped(text)  # type: ignore[attr-defined]
