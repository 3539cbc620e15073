"""medseg serve."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.choosing import Images
from medseg.errors import ConfigError


def serve(
    data: Annotated[
        Path, typer.Option(help="The folder of the images; label maps are saved in annotations/ below it.")
    ],
    models: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL]...", help="Runs or model folders, of medseg or imported."),
    ] = None,
    images: Images = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 lets in other machines, with the token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MEDSEG_TOKEN", show_envvar=True, help="What clients have to know. [default: a new one each time]"
        ),
    ] = None,
    use_token: Annotated[
        bool, typer.Option("--use-token/--no-token", help="--no-token lets in all programs of this machine.")
    ] = True,
    origins: Annotated[
        list[str] | None,
        typer.Option("--origin", help="Address of pages that may ask, as http://localhost:3000; may be repeated."),
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="Of TLS, in PEM; with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="Of TLS, in PEM.")] = None,
    max_upload: Annotated[str, typer.Option(help="What a request may send, as in 500MB or 2GB.")] = "1GB",
    array_orientation: Annotated[
        str,
        typer.Option(
            help="Where the axes of arrays point that nnInteractive's clients send, where the image is not one of "
            "--data. [default: SPL, 3D Slicer's order of axial slices]",
            show_default=False,
        ),
    ] = "SPL",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    backend: Annotated[
        str, typer.Option(help="What runs the networks: auto, torch, compile, openvino, int8 or onnxruntime.")
    ] = "auto",
) -> None:
    """Serves models and a folder of images to 3D Slicer, OHIF and other viewers.

    It speaks MONAI Label's REST API and nnInteractive's protocol on one port. Only programs of this computer reach it,
    and only with the address that is shown, which holds a token. Ctrl-C ends it.

    Example:

        medseg serve run --data scans

        medseg serve run other_run --data scans --host 0.0.0.0 --certificate cert.pem --key key.pem

        medseg serve run --data dicom --origin http://localhost:3000
    """
    from medseg.workflows.serve import serve as run

    if token is not None and not use_token:
        raise ConfigError("--token and --no-token: give one of them")
    run(
        models or [], data, images=images, host=host, port=port, token=token, use_token=use_token,
        origins=origins or [], certificate=certificate, key=key, max_upload=max_upload,
        array_orientation=array_orientation, device=device, backend=backend,
    )  # fmt: skip
