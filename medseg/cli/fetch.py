"""medseg fetch."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.archives import AeTitle, Authorities, Certificate, Key, TokenFile
from medseg.cli.status import tell_by_status
from medseg.workflows.fetch import MOVE_PORT


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="An address: dicomweb+https://HOST/BASE/studies/UID or dicom://AET@HOST:PORT/studies/UID, or with a "
            "query in place of a study: ?PatientID=P1&ModalitiesInStudy=CT."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for STUDY/SERIES/INSTANCE.dcm.")],
    token_file: TokenFile = None,
    certificate: Certificate = None,
    key: Key = None,
    ca: Authorities = None,
    ae_title: AeTitle = None,
    move_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            envvar=MOVE_PORT,
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
