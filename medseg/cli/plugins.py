"""--plugin, of all commands that need parts which a plugin may have registered."""

from pathlib import Path
from typing import Annotated

import typer

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Your own Python file that registers networks, losses, transforms, optimizers, schedules or "
        "callbacks; it is run. May be repeated.",
    ),
]
