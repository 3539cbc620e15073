"""medseg export."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    mask: Annotated[Path, typer.Argument(help="A label map, for instance one that 'medseg predict' wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .nii.gz or .nii file; with --per-label a folder.")],
    like: Annotated[
        Path | None,
        typer.Option(help="The study on whose grid to write: a NIfTI file, or folder or file of a DICOM series."),
    ] = None,
    per_label: Annotated[
        bool, typer.Option("--per-label", help="One file of 0 and 1 for each label, named after it.")
    ] = False,
) -> None:
    """Writes a label map as NIfTI on the grid of a study, as one file or one for each label.

    Voxels are copied exactly where the grids agree, also when axes are flipped; otherwise resampled (nearest
    neighbour), with a warning.

    Example:

        medseg export masks/patient_7.nii.gz -o patient_7 --like dicom/patient_7 --per-label
    """
    from medseg.workflows.export import export as run

    for path in run(mask, output, like=like, per_label=per_label):
        typer.echo(path)
