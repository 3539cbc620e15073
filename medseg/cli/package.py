"""medseg package."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.progress import say


def package(
    model: Annotated[Path, typer.Argument(help="A run that 'medseg train' made, or its model/ folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .zip file, or the folder for the other formats.")],
    format: Annotated[str, typer.Option(help="zip, onnx or monai-bundle.")] = "zip",
) -> None:
    """Packs a trained model to be given away: as one file, as ONNX, or as a MONAI bundle.

    'medseg predict' takes the zip as a model. ONNX comes with model.json, which says how images are prepared. A bundle
    predicts without medseg: python -m monai.bundle run --config_file configs/inference.json --bundle_root . --input_dir
    IMAGES --output_dir MASKS.

    Example:

        medseg package run -o liver.zip

        medseg package run -o liver_bundle --format monai-bundle
    """
    from medseg.workflows.package import package as run

    say(f"Written: {run(model, output, format=format)}")
