"""Errors that come about in the code of plugins, or in calling it."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from medseg.errors import ConfigError, MedsegError, cause_of, lacks_memory, reason_of

plugin_files: set[str] = set()  # that were run, as tracebacks have their paths


class PluginError(MedsegError):
    """A plugin cannot be loaded, or raised an error of its own. The message names its file and line."""


def check_arguments(where: str, build: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Checks that a class or function takes some arguments.

    Args:
        where: The setting that holds them, for the message.
        build: The class or function.
        *arguments: What it will be called with.
        **named: What it will be called with by name.

    Raises:
        ConfigError: It does not take them.
    """
    try:
        inspect.signature(build).bind(*arguments, **named)
    except TypeError as error:
        raise ConfigError(f"{where}: {reason_of(error)}") from error


@contextmanager
def errors_of_plugins() -> Iterator[None]:
    """Turns errors that come about in a plugin into a ``PluginError`` that names its file and line. Others pass."""
    try:
        yield
    except MedsegError:
        raise
    except Exception as error:
        message = error_of_plugin(error)
        if not message or lacks_memory(error):
            raise
        raise PluginError(message) from error


def error_of_plugin(error: BaseException) -> str:
    """Returns the file and line of a plugin in which an error came about, and the error; "" where it was in none."""
    place, cause = place_in_plugin(error), cause_of(error)
    return "" if place is None else f"{place}: {type(cause).__name__}: {reason_of(cause)}"


def place_in_plugin(error: BaseException) -> str | None:
    """Returns the file and the line of a plugin in which an error came about; None where it was in none."""
    error = cause_of(error)
    if isinstance(error, SyntaxError) and error.filename in plugin_files:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in plugin_files]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None
