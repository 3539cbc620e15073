"""medseg annotate."""

from pathlib import Path
from typing import Annotated

import typer


def annotate(
    data: Annotated[
        Path,
        typer.Option(help="The folder of the images, in any layout: DICOM, NIfTI, NRRD, pictures.", metavar="FOLDER"),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A RUN or a model folder that draws a first mask, and answers to clicks if trained with --prompts."
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A structure to draw; may be given again. More are added on the page.")
    ] = None,
    annotator: Annotated[str | None, typer.Option(help="Who draws. [default: the name of the user]")] = None,
    held_back: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Part of the cases that no network is trained on: it is measured on these."),
    ] = 0.2,
    max_time: Annotated[str, typer.Option(help="Of each training on the page: 90s, 30m, 2h.")] = "10m",
    train_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPTION", help="An option of medseg train, as --train-option=--dims=2; may be given again."
        ),
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Which files are images; once for each channel.")
    ] = None,
    max_upload: Annotated[str, typer.Option(help="What a request may send.")] = "1GB",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
) -> None:
    """Opens a page on which the images of a folder are annotated: brush, eraser, clicks that a model answers,
    interpolation between slices.

    It offers the case next from which a network would learn most, and trains in the background on what is drawn. Label
    maps with their provenance lie in FOLDER/annotations; 'medseg preprocess FOLDER' takes them. Everything stays on
    this computer: the page is served on 127.0.0.1 only, below a random address. Ctrl-C ends it.

    Example:

        medseg annotate --data scans --label liver --label tumour

        medseg annotate --data scans --model run
    """
    from medseg.workflows.annotate import annotate as run

    run(
        data,
        model,
        labels=label or [],
        annotator=annotator,
        held_back=held_back,
        max_time=max_time,
        train_options=train_option or [],
        images=images,
        max_upload=max_upload,
        device=device,
        port=port,
        browser=browser,
    )
