"""medseg export."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.formats import FORMATS
from medseg.errors import ConfigError
from medseg.progress import say


def export(
    mask: Annotated[
        Path,
        typer.Argument(
            help="A label map, for instance one that 'medseg predict' wrote, or named segments: .seg.nrrd, DICOM SEG, "
            "RTSTRUCT."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="A file that ends in .nii.gz, .nii, .seg.nrrd, .dcm or .geojson; a folder for nifti-per-label, stl "
            "and obj.",
        ),
    ],
    like: Annotated[
        Path | None,
        typer.Option(help="The study on whose grid to write: a NIfTI file, or folder or file of a DICOM series."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help=f"{FORMATS}. [default: as OUTPUT is named; .dcm: dicom-seg]"),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="VALUE=NAME", help="What a label value is called, as in '1=liver'; repeatable."),
    ] = None,
    instances: Annotated[
        str,
        typer.Option(
            "--instances",
            metavar="NAME",
            help="What the objects are whose numbers are the values of MASK, such as nucleus: each becomes a structure "
            "of its own.",
        ),
    ] = "",
    per_label: Annotated[bool, typer.Option("--per-label", help="The same as --format nifti-per-label.")] = False,
) -> None:
    """Writes a mask in the format of another program, on the grid of a study.

    Voxels are copied exactly where the grids agree, also when axes are flipped; otherwise resampled (nearest
    neighbour), with a warning. dicom-seg and rtstruct need the DICOM series, with --like. Names, colours and codes are
    those of the segments, or of predictions.json beside the mask. What was written is read back by another reader and
    compared.

    Example:

        medseg export masks/patient_7.nii.gz -o patient_7.dcm --like dicom/patient_7 --format rtstruct

        medseg export mask.nii.gz -o mask.seg.nrrd --name 1=liver --name 2=spleen

        medseg export objects/7.nii.gz -o lesions.dcm --like dicom/7 --instances lesion
    """
    from medseg.workflows.export import export as run

    chosen = "nifti-per-label" if per_label else format_
    written = run(mask, output, like=like, format=chosen, names=_names(names or []), instances=instances)
    for path in written.files:
        typer.echo(path)
    say(written.certificate.verdict)


def _names(options: list[str]) -> dict[int, str]:
    """Returns names by label value.

    Raises:
        ConfigError: An option is wrong.
    """
    names = {}
    for option in options:
        value, _, name = option.partition("=")
        if not value.strip().lstrip("-").isdigit() or not name.strip():
            raise ConfigError(f"--name '{option}': write it as VALUE=NAME, as in '1=liver'")
        names[int(value)] = name.strip()
    return names
