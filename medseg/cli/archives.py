"""The options of all commands that speak to an archive: token, TLS, AE title. Each may stand in the environment."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.workflows.fetch import AE_TITLE, FILES


def _option(name: str, text: str) -> Any:
    return typer.Option(envvar=FILES[name], show_envvar=True, help=text)


TokenFile = Annotated[
    Path | None, _option("token_file", "Of DICOMweb: a file with the bearer token, or with USER:PASSWORD.")
]
Certificate = Annotated[Path | None, _option("certificate", "Of TLS: who this side is, in PEM; with --key.")]
Key = Annotated[Path | None, _option("key", "Of TLS, in PEM.")]
Authorities = Annotated[
    Path | None,
    _option("ca", "Of TLS: the authorities of the archive's certificate, in PEM. [default: those of the system]"),
]
AeTitle = Annotated[
    str | None, typer.Option(envvar=AE_TITLE, show_envvar=True, help="Of this side, in DICOM. [default: MEDSEG]")
]
