"""The option --rename, of all commands that read named segments."""

from collections.abc import Sequence
from typing import Annotated

import typer

from medseg.errors import ConfigError

Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        help="Names of segments and the label that they are, as in 'GTV*=tumour'; 'external=' drops one.",
    ),
]


def renames(options: Sequence[str] | None) -> dict[str, str]:
    """Labels by names or globs of segments, in the order given. Raises ``ConfigError``."""
    for option in options or ():
        if not option.rpartition("=")[0].strip():
            raise ConfigError(f"--rename '{option}': write it as SEGMENT=LABEL, or SEGMENT= to drop it")
    pairs = (option.rpartition("=") for option in options or ())
    return {name.strip(): label.strip() for name, _, label in pairs}
