"""The exit status of a command that did what it could."""

from collections.abc import Sequence

import typer

FAULT_OF_INPUT = 1
FAULT_OF_OURS = 3


def tell_by_status(defects: Sequence[bool]) -> None:
    """Ends the command where there are problems: ``defects`` says of each whether it is a defect of medseg."""
    if defects:
        raise typer.Exit(FAULT_OF_OURS if all(defects) else FAULT_OF_INPUT)
