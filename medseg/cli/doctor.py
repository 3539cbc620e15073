"""medseg doctor."""

from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.json_output import print_json
from medseg.cli.status import FAULT_OF_INPUT
from medseg.progress import say

if TYPE_CHECKING:
    from medseg.diagnosis import Diagnosis


def doctor(
    self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="Try reading, a network and writing, for some seconds.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, no text.")] = False,
) -> None:
    """Tells versions, processor, memory and devices, and tries whether medseg works on this machine.

    The text is made to be pasted into an issue; it names no file, no user and no host. The exit status is 1 when the
    self-test fails.

    Example:

        medseg doctor
    """
    from medseg.workflows.doctor import doctor as run

    diagnosis = run(self_test=self_test)
    if as_json:
        print_json(diagnosis.as_json())
    else:
        typer.echo(as_text(diagnosis))
    if not diagnosis.passed:
        say("The self-test failed: please report it, with the text above")
        raise typer.Exit(FAULT_OF_INPUT)


def as_text(diagnosis: "Diagnosis") -> str:
    """Returns the lines of a diagnosis: a name and a value each, then the steps of the self-test."""
    gb = 2**10
    rows = {
        "medseg": diagnosis.medseg,
        "Python": diagnosis.python,
        "system": diagnosis.system,
        "processor": f"{diagnosis.processor}, {diagnosis.cores} cores",
        "instructions": f"{', '.join(diagnosis.instructions) or 'none known'}; PyTorch uses {diagnosis.vectors}",
        "precision": diagnosis.precision,
        "memory": f"{diagnosis.free_memory_mb / gb:.1f} GB free of {diagnosis.memory_mb / gb:.1f} GB",
        "disk": f"{diagnosis.disk_free_mb / gb:.1f} GB free for temporary files",
        "devices": "; ".join(diagnosis.devices) or "processor only",
        **diagnosis.packages,
        "extras": ", ".join(f"{name} ({number})" for name, number in diagnosis.extras.items()) or "none",
    }
    width = max(map(len, rows)) + 2
    lines = [f"{name:<{width}}{value}" for name, value in rows.items()]
    for step in diagnosis.self_test:
        outcome = f"FAILED: {step.problem}" if step.problem else f"passed in {step.seconds:.1f} s"
        lines.append(f"self-test: {step.name}: {outcome}")
    return "\n".join(lines)
