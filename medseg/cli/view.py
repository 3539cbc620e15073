"""medseg view."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from medseg.errors import ConfigError
from medseg.progress import say


def view(
    source: Annotated[
        Path,
        typer.Argument(
            help="An image (NIfTI, a DICOM series, NRRD, a picture); or what 'medseg evaluate -o', 'medseg train' or "
            "'medseg predict' wrote."
        ),
    ],
    masks: Annotated[
        list[Path] | None,
        typer.Argument(help="Masks to lay over the image: label maps, .seg.nrrd, DICOM SEG, RTSTRUCT."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="What the mask should be like: shown as outline, with a map of the errors.")
    ] = None,
    slicer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.mrb|FOLDER",
            help="Write a scene that 3D Slicer opens, one file (.mrb) or a folder with a script; start no viewer.",
        ),
    ] = None,
    case: Annotated[
        str | None, typer.Option(help="The case for --slicer, where there are several. [default: the worst]")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
) -> None:
    """Shows an image with masks in the browser: three planes and 3D, prediction against reference, the worst cases
    first.

    Everything stays on this computer: the page is served on 127.0.0.1 only, below a random address. Ctrl-C ends it.

    Example:

        medseg view ct.nii.gz liver.nii.gz --reference drawn.seg.nrrd

        medseg view metrics

        medseg view metrics --slicer scene.mrb --case patient_7
    """
    from medseg.workflows.view import to_slicer
    from medseg.workflows.view import view as run

    if case is not None and slicer is None:
        raise ConfigError("--case goes with --slicer; in the browser, cases are chosen on the page")
    if slicer is None:
        run(source, masks or [], reference=reference, port=port, browser=browser)
        return
    written = to_slicer(source, slicer, masks or [], reference=reference, case=case)
    typer.echo(written)
    say(f"Open it with: Slicer {'--python-script ' if written.suffix == '.py' else ''}{shlex.quote(str(written))}")
