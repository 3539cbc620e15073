"""medseg fetch."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.status import tell_by_status


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="An address: dicomweb+https://HOST/BASE/studies/UID or dicom://AET@HOST:PORT/studies/UID, or with a "
            "query in place of a study: ?PatientID=P1&ModalitiesInStudy=CT."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for STUDY/SERIES/INSTANCE.dcm.")],
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="MEDSEG_DICOMWEB_TOKEN_FILE",
            show_envvar=True,
            help="Of DICOMweb: a file with the bearer token, or with USER:PASSWORD.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="MEDSEG_DICOM_CERTIFICATE", show_envvar=True, help="Of TLS: who this side is, in PEM; with --key."
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(envvar="MEDSEG_DICOM_KEY", show_envvar=True, help="Of TLS, in PEM.")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            envvar="MEDSEG_DICOM_CA",
            show_envvar=True,
            help="Of TLS: the authorities of the archive's certificate, in PEM.",
        ),
    ] = None,
    ae_title: Annotated[
        str | None, typer.Option(envvar="MEDSEG_AE_TITLE", show_envvar=True, help="Of this side. [default: MEDSEG]")
    ] = None,
    move_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            envvar="MEDSEG_MOVE_PORT",
            show_envvar=True,
            help="Let the archive send to this port (C-MOVE), which it has to know by the AE title. [default: C-GET]",
        ),
    ] = None,
) -> None:
    """Fetches DICOM studies from an archive, by DICOMweb or by DICOM's own query and retrieve.

    What is in the folder already is not fetched again, so that a call that was killed can be repeated. 'medseg predict'
    and 'medseg preprocess' take such addresses too, and fetch them first.

    Example:

        medseg fetch dicomweb+https://pacs.example.org/dicom-web/studies/1.2.840.1 -o study

        medseg fetch 'dicom://PACS@10.0.0.5:104?PatientID=P1&ModalitiesInStudy=CT' -o studies
    """
    from medseg.workflows.fetch import fetch as run

    result = run(
        source, output, token_file=token_file, certificate=certificate, key=key, ca=ca, ae_title=ae_title,
        move_port=move_port,
    )  # fmt: skip
    if result.problems:
        tell_by_status([False for _ in result.problems])
