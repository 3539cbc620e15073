"""medseg attention."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.progress import counted, say


def attention(
    model: Annotated[Path, typer.Argument(help="A run of --network attention-unet, or its model/ folder.")],
    source: Annotated[Path, typer.Argument(help="The image of one case: a file, or a DICOM series.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the maps and the picture.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
) -> None:
    """Shows where an attention U-Net looks: what its gates let through, over the image.

    attention.png has a row for each gate, from the finest gated skip down, two for each skip; blue is closed, red is
    open. gate_1.nii.gz and so on are the same as volumes from 0 to 1, on the grid of image.nii.gz, the image as the
    network sees it.

    Example:

        medseg attention run scans/patient_7.nii.gz -o looked_at
    """
    from medseg.workflows.attention import attention_maps

    _, maps = attention_maps(model, source, output, device=device)
    say(f"{counted(len(maps.array), 'gate')}: {output / 'attention.png'}, and as NIfTI beside it")
