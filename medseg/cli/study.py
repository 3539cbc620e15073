"""medseg study."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.formats import FORMATS
from medseg.cli.serve import named_or_not
from medseg.cli.status import tell_by_status


def study(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY]",
            help="The folder of the study, or an address as of 'medseg fetch'. [default: what mercure or MONAI Deploy "
            "set in the environment]",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="[NAME=]MODEL", help="A run or model folder; may be repeated. Needed."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the masks.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"Of the kinds of DICOM among {FORMATS}; may be repeated. [default: dicom-seg]",
        ),
    ] = None,
    dicom_settings: Annotated[
        Path | None, typer.Option(help="YAML file of 'medseg serve --dicom'; its rules choose the series.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What a case may take, as 4GB; of the GPU's memory on CUDA.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    backend: Annotated[
        str, typer.Option(help="What runs the networks: auto, torch, compile, openvino, int8 or onnxruntime.")
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which model would see which series, and why.")
    ] = False,
) -> None:
    """Segments the series of one DICOM study that models fit, as 'medseg serve --dicom' does with each that it gets.

    Without STUDY it is a module of mercure, or an application of MONAI Deploy: it takes the folders of the study and of
    the results from the environment. A study that fits no model is left, and that is no failure.

    Example:

        medseg study dicom_study --model liver=run --dry-run

        medseg study dicom_study --model liver=run -o masks --format dicom-seg --format rtstruct
    """
    from medseg.pacs.settings import DicomSettings, changed_settings, read_dicom_settings
    from medseg.workflows.study import study as run

    settings = DicomSettings() if dicom_settings is None else read_dicom_settings(dicom_settings)
    given = {"formats": formats, "max_memory": max_memory}
    settings = changed_settings(settings, {name: value for name, value in given.items() if value})
    result = run(
        named_or_not(models or []), source, output, settings=settings, device=device, backend=backend, dry_run=dry_run
    )
    tell_by_status([problem.is_defect for problem in result.problems])
