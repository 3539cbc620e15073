"""medseg quantise."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.plugins import Plugins
from medseg.progress import say


def quantise(
    run: Annotated[Path, typer.Argument(help="A run that 'medseg train' made; with --images any model folder.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Scans to measure on, where the training data is elsewhere, as of imported models."),
    ] = None,
    references: Annotated[Path | None, typer.Option(help="Label maps of these scans, for the Dice.")] = None,
    plugins: Plugins = None,
) -> None:
    """Makes the network of a run faster on processors: in int8, where the held-back cases lose no Dice by that.

    It is kept beside the weights, in RUN/model/int8. 'medseg predict' takes it from then on where the network is slow
    (--backend auto), or always (--backend int8). This needs the prepared dataset that the run was trained on, and: pip
    install 'medseg[int8]'.

    Example:

        medseg quantise run

        medseg quantise hippocampus --images scans
    """
    from medseg.plugins import load_plugins

    load_plugins(plugins or ())
    from medseg.workflows.quantise import quantise as do

    say(f"Written: {', '.join(map(str, do(run, images=images, references=references).folders))}")
