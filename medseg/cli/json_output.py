"""What ``--json`` prints on standard output."""

from typing import Any

import typer

from medseg.files import UNKNOWN, json_text


def print_json(content: Any) -> None:
    """Prints JSON; a name of a file that is no text is printed with its bytes as escapes."""
    typer.echo(json_text(content).encode("utf-8", UNKNOWN).decode())
