"""medseg import."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.progress import say


def import_model(
    source: Annotated[
        Path,
        typer.Argument(
            help="A trained folder of nnU-Net v2, the folder of its dataset, or a bundle of MONAI, or a zip of these; "
            "'totalsegmentator', or the folder of its weights; a recipe of several models, in YAML."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model folder to write.")],
    configuration: Annotated[
        str | None,
        typer.Option(
            help="Of nnU-Net, where there are several: 2d, 3d_fullres, …; of a bundle, a file in configs/. "
            "[default of a bundle: inference]"
        ),
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Of nnU-Net, as 0,1 or all. [default: all that were cross-validated]")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="Of nnU-Net: final, best or latest.")] = "final",
    orientation: Annotated[
        str | None,
        typer.Option(
            metavar="LETTERS",
            help="Where the axes of nnU-Net's training images pointed, as LPS; images are turned so. [default: they "
            "are taken as they are stored, as nnU-Net does]",
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Of TotalSegmentator. [default: total]")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Of TotalSegmentator: the model of 3 mm.")] = False,
    fastest: Annotated[bool, typer.Option("--fastest", help="The same of 6 mm.")] = False,
    entries: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ENTRY=VALUE", help="Of a bundle: changes an entry of its configuration."),
    ] = None,
) -> None:
    """Makes a model of another program a model of medseg, which predict, package and train --init take.

    No code of it is run, and a file that holds more than weights is refused. Results are those of the program that it
    comes from: the same resampling, windows and mirroring. 'medseg predict --no-tta' leaves mirroring out, which is up
    to eight times as fast.

    Example:

        medseg import nnUNet_results/Dataset004_Hippocampus --configuration 3d_fullres -o hippocampus

        medseg predict hippocampus scans -o masks

        medseg import totalsegmentator --fast -o total3mm

        medseg import recipe.yaml -o liver_model

        medseg import wholeBody_ct_segmentation -o coarse --set displayable_configs::highres=false
    """
    from medseg.workflows.import_model import import_model as run

    which = [fold.strip() for fold in folds.split(",")] if folds else []
    done = run(
        source,
        output,
        configuration=configuration,
        folds=which,
        checkpoint=checkpoint,
        orientation=orientation,
        task=task,
        speed="fastest" if fastest else "fast" if fast else "default",
        entries=entries or (),
    )
    say(f"Written: {done}")
