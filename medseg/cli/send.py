"""medseg send."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.status import tell_by_status


def send(
    source: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    destination: Annotated[
        str, typer.Option("--to", help="AET@host:port, tls:AET@host:port, the URL of a DICOMweb server, or a folder.")
    ],
    tries: Annotated[int, typer.Option(min=1, help="How many times a file is sent at most.")] = 5,
    ae_title: Annotated[
        str, typer.Option(envvar="MEDSEG_AE_TITLE", show_envvar=True, help="Of this side, in DICOM.")
    ] = "MEDSEG",
    token_file: Annotated[
        Path | None, typer.Option(help="Of DICOMweb: a file with the bearer token, or with USER:PASSWORD.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="Of TLS: who this side is, in PEM; with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="Of TLS, in PEM.")] = None,
    ca: Annotated[Path | None, typer.Option(help="Of TLS: the authorities of the archive's certificate.")] = None,
) -> None:
    """Sends DICOM files, such as masks of 'medseg predict', to an archive; each answer is checked.

    What is not taken is sent again, after longer and longer waits. Files of token and TLS may stand in environment
    variables, as 'medseg fetch --help' has them.

    Example:

        medseg send masks --to PACS@10.0.0.5:104

        medseg send masks --to https://archive.example.org/dicom-web --token-file token.txt
    """
    from medseg.workflows.send import send as run

    result = run(
        source, destination, tries=tries, ae_title=ae_title, token_file=token_file, certificate=certificate, key=key,
        ca=ca,
    )  # fmt: skip
    tell_by_status([False for _ in result.problems])
