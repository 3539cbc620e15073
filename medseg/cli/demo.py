"""medseg demo."""

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medseg.progress import say

if TYPE_CHECKING:
    from medseg.workflows.demo import DemoResult

# What the demo reaches on two cores of a laptop that do nothing else, without bf16 (benchmarks/demo.py).
USUAL_DICE, USUAL_LOWEST_DICE = 0.90, 0.80
USUAL_STEPS = {2: 400, 3: 400}


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder for everything.")] = Path("medseg-demo"),
    dims: Annotated[Literal["2", "3"], typer.Option(help="A network that sees slices (2) or volumes (3).")] = "3",
    max_time: Annotated[str | None, typer.Option(help="Time for training, as in 130s or 10m.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
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
    for line in verdict(result):
        say(line)
    say(f"Done in {result.seconds / 60:.1f} min. Everything is in {result.folder}")
    say(f"Look at: {result.overlay} and {result.folder / 'run' / 'progress.png'}")
    say(f"Open in 3D Slicer: {result.image} (volume) and {result.mask} (as segmentation)")


def verdict(result: "DemoResult") -> list[str]:
    """Returns what was reached against what is usual, and what to do where it is worse."""
    name, lowest = min(result.dice.items(), key=lambda each: each[1])
    mean = fmean(result.dice.values())
    lines = [
        f"Mean Dice {mean:.2f}, the lowest {lowest:.2f} ({name}). "
        f"Usual on a quiet laptop: {USUAL_DICE:.2f} or more, and no structure below {USUAL_LOWEST_DICE:.2f}"
    ]
    if round(mean, 2) >= USUAL_DICE and round(lowest, 2) >= USUAL_LOWEST_DICE:
        return lines
    if result.steps < USUAL_STEPS[result.dims]:
        return [
            *lines,
            f"There was time for {result.steps} steps of training; usual are {USUAL_STEPS[result.dims]} or more. "
            "Close programs that keep the processor busy, or give more time: medseg demo --max-time 6m -o demo-6m",
        ]
    report = result.folder / "run" / "report.html"
    return [*lines, f"Training did {result.steps} steps, which is usually enough. {report} has the curves"]
