"""medseg demo."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medseg.progress import say


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder for everything.")] = Path("medseg-demo"),
    dims: Annotated[Literal["2", "3"], typer.Option(help="A network that sees slices (2) or volumes (3).")] = "3",
    max_time: Annotated[str | None, typer.Option(help="Time for training, as in 130s or 10m.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    seed: Annotated[int, typer.Option(help="Another seed makes other patients.")] = 0,
) -> None:
    """Goes the whole way in four minutes: synthetic CT studies in DICOM, training, masks, metrics, a picture.

    Example:

        medseg demo --dims 2
    """
    from medseg.cli.evaluate import show
    from medseg.workflows.demo import MAX_TIME
    from medseg.workflows.demo import demo as run

    result = run(output, dims=3 if dims == "3" else 2, max_time=max_time or MAX_TIME, device=device, seed=seed)
    show(result.evaluation)
    for line in result.verdict:
        say(line)
    say(f"Done in {result.seconds / 60:.1f} min. Everything is in {result.folder}")
    say(f"Look at: {result.overlay} and {result.folder / 'run' / 'progress.png'}")
    say(f"Open in 3D Slicer: {result.image} (volume) and {result.mask} (as segmentation)")
