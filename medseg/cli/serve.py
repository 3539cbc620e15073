"""medseg serve."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli.choosing import Images
from medseg.cli.formats import FORMATS
from medseg.errors import ConfigError

if TYPE_CHECKING:
    from medseg.pacs.settings import DicomSettings

LOCAL = "127.0.0.1"
OF_DICOM = ("send", "formats", "queue", "quiet_time", "callers")


def serve(
    models: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL]...", help="Runs or model folders, of medseg or imported."),
    ] = None,
    named_models: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME=MODEL", help="The same by name; may be repeated.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the images; label maps are saved in annotations/ below it. Needed without --dicom."
        ),
    ] = None,
    images: Images = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 lets in other machines, with the token.")
    ] = LOCAL,
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
    dicom: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Listen for DICOM studies at this port too, beside a PACS."
        ),
    ] = None,
    send: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DESTINATION",
            help="Where results of received studies go: AET@host:port, the URL of a DICOMweb server, or a folder; may "
            "be repeated.",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"What is sent of them, of the kinds of DICOM among {FORMATS}; may be repeated. [default: dicom-seg]",
        ),
    ] = None,
    queue: Annotated[
        Path | None,
        typer.Option(help="Folder of received studies and results. [default: medseg-queue]", show_default=False),
    ] = None,
    quiet_time: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="A study is complete when nothing of it came for so long. [default: 60s]"
        ),
    ] = None,
    callers: Annotated[
        list[str] | None,
        typer.Option(
            "--caller",
            metavar="AET[@ADDRESS]",
            help="Who may send studies, as CT1, CT1@10.0.0.7 or '*@10.0.0.0/24'; may be repeated. [default: programs "
            "of this machine]",
        ),
    ] = None,
    dicom_settings: Annotated[
        Path | None,
        typer.Option(help="YAML file of all settings of DICOM: rules, TLS, limits; options stand above it."),
    ] = None,
) -> None:
    """Serves models and a folder of images to 3D Slicer, OHIF and other viewers; and studies of a PACS.

    It speaks MONAI Label's REST API and nnInteractive's protocol on one port. Only programs of this computer reach it,
    and only with the address that is shown, which holds a token. Ctrl-C ends it.

    With --dicom it receives studies by C-STORE, segments the series that a model fits, and sends the masks on.

    Example:

        medseg serve run --data scans

        medseg serve run other_run --data scans --host 0.0.0.0 --certificate cert.pem --key key.pem

        medseg serve run --data dicom --origin http://localhost:3000

        medseg serve --dicom 11112 --model liver=run --send PACS@10.0.0.5:104
    """
    from medseg.workflows.serve import serve as run

    if token is not None and not use_token:
        raise ConfigError("--token and --no-token: give one of them")
    given = {
        "port": dicom, "host": host if dicom_settings is None or host != LOCAL else None, "send": send,
        "formats": formats, "queue": queue, "quiet_time": quiet_time, "callers": callers,
    }  # fmt: skip
    of_dicom = _settings(dicom_settings, given) if dicom is not None or dicom_settings is not None else None
    if of_dicom is None and (given_alone := [name for name in OF_DICOM if given[name]]):
        raise ConfigError(f"--{given_alone[0].replace('_', '-')}: is of the DICOM port; give --dicom PORT too")
    if models and named_models:
        raise ConfigError("give all models with --model NAME=MODEL, or none")
    chosen = named_or_not(named_models) if named_models else models or []
    run(
        chosen, data, images=images, host=host, port=port, token=token, use_token=use_token,
        origins=origins or [], certificate=certificate, key=key, max_upload=max_upload,
        array_orientation=array_orientation, device=device, backend=backend, dicom=of_dicom,
    )  # fmt: skip


def named_or_not(given: list[str]) -> list[Path] | dict[str, Path]:
    """Returns models by name, where they have one; else their paths.

    Args:
        given: MODEL, or NAME=MODEL, of all.

    Raises:
        ConfigError: Some have a name and others none, or one is no name.
    """
    pairs = [text.partition("=") for text in given]
    if not any(separator for _, separator, _ in pairs):
        return [Path(text) for text in given]
    for (name, _, path), text in zip(pairs, given, strict=True):
        if not path or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name):
            raise ConfigError(f"--model {text}: write NAME=MODEL; a name has letters, digits, '_', '.' and '-'")
    return {name: Path(path) for name, _, path in pairs}


def _settings(file: Path | None, given: dict[str, Any]) -> "DicomSettings":
    """Returns the settings of a file, with those of the command line above them."""
    from medseg.pacs.settings import DicomSettings, changed_settings, read_dicom_settings

    of_file = DicomSettings() if file is None else read_dicom_settings(file)
    return changed_settings(of_file, {name: value for name, value in given.items() if value not in (None, [])})
