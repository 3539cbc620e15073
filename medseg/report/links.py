"""Other files as a report names them: a report is sent around, and says nothing of the machine that it was made on."""

import os
from pathlib import Path
from urllib.parse import quote

# From a report's folder up, as far as what was made together usually lies.
MOST_STEPS = 3


def seen_from(folder: Path, path: Path) -> str:
    """Returns a path relative to the folder of a report; only the name of what lies elsewhere.

    Args:
        folder: Of the report.
        path: Of anything.
    """
    here, there = folder.resolve(), path.resolve()
    for steps, above in enumerate((here, *list(here.parents)[:MOST_STEPS])):
        if there.is_relative_to(above) and above != above.parent:
            return Path(*[".."] * steps, there.relative_to(above)).as_posix()
    return there.name


def link(folder: Path, path: Path) -> str:
    """Returns what a browser follows from a report to a path.

    Args:
        folder: Of the report.
        path: Of anything.
    """
    try:
        return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())
    except ValueError:  # on another drive
        return path.resolve().as_uri()
