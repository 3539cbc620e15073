"""medseg package."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.progress import say


def package(
    model: Annotated[Path, typer.Argument(help="A run that 'medseg train' made, or its model/ folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .zip file, or the folder for the other formats.")],
    format: Annotated[str, typer.Option(help="zip, onnx, monai-bundle or nnunet.")] = "zip",
) -> None:
    """Packs a trained model to be given away: as one file, as ONNX, as a MONAI bundle, or for nnU-Net.

    'medseg predict' takes the zip as a model. ONNX comes with model.json, which says how images are prepared. A bundle
    predicts without medseg: python -m monai.bundle run --config_file configs/inference.json --bundle_root . --input_dir
    IMAGES --output_dir MASKS. For nnU-Net it is a folder that nnUNet_results may point at, for nnUNetv2_predict and
    programs that run it.

    Example:

        medseg package run -o liver.zip

        medseg package run -o liver_bundle --format monai-bundle

        medseg package run -o nnUNet_results --format nnunet
    """
    from medseg.workflows.package import package as run

    say(f"Written: {run(model, output, format=format)}")
