"""medseg send."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.archives import AeTitle, Authorities, Certificate, Key, TokenFile
from medseg.cli.status import tell_by_status


def send(
    source: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    destination: Annotated[
        str, typer.Option("--to", help="AET@host:port, tls:AET@host:port, the URL of a DICOMweb server, or a folder.")
    ],
    tries: Annotated[int, typer.Option(min=1, help="How many times a file is sent at most.")] = 5,
    ae_title: AeTitle = None,
    token_file: TokenFile = None,
    certificate: Certificate = None,
    key: Key = None,
    ca: Authorities = None,
) -> None:
    """Sends DICOM files, such as masks of 'medseg predict', to an archive; each answer is checked.

    What is not taken is sent again, after longer and longer waits.

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
