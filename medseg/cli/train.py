"""medseg train."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from medseg.progress import say


def train(
    prepared: Annotated[Path, typer.Argument(help="A folder that 'medseg preprocess' made.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the run: model, log, curves, validation.")],
    dims: Annotated[
        Literal["2", "3"] | None, typer.Option(help="A network that sees slices (2) or volumes (3). [default: 3]")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Network by name. [default: unet]")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Which fifth of the cases validates. [default: 0]")] = None,
    max_time: Annotated[
        str | None,
        typer.Option(help="Time for the whole run, as in 90s, 30m or 2h; the schedule follows the clock."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Length of the run in epochs, instead of --max-time.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    config: Annotated[list[Path] | None, typer.Option("-c", "--config", help="YAML file with settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as in training.learning_rate=1e-3.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an interrupted run, with the settings that it began with."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the validation metrics as JSON, no table.")] = False,
) -> None:
    """Trains a U-Net and validates it on whole cases that it has not seen.

    The run's folder gets model/ (best validation Dice), model-last/, log.csv, progress.png, TensorBoard events,
    config.yaml, checkpoint/ and validation/ with masks and metrics. Ctrl-C writes a checkpoint; --resume goes on.

    Example:

        medseg train prepared -o run --dims 3 --max-time 30m
    """
    from medseg.config import load

    if max_time is not None and epochs is not None:
        raise typer.BadParameter("give --max-time or --epochs, not both")
    options = {
        "network.name": network,
        "training.fold": fold,
        "training.max_time": max_time,
        "training.epochs": epochs,
        "training.seed": seed,
    }
    ignored = [s for s in settings or [] if s.startswith(("preprocessing.", "planning.")) and ".cpu_" not in s]
    if ignored:
        raise typer.BadParameter(f"--set {ignored[0]} is settled when data are prepared; give it to medseg preprocess")
    overrides = [
        *(settings or []),
        *(f"{key}={value}" for key, value in options.items() if value is not None),
    ]
    if resume and (overrides or config or dims):
        raise typer.BadParameter("--resume goes on with the run's own settings; leave the other options out")
    chosen = load(config, overrides)
    # After all that can be refused at once: this brings torch and MONAI, which takes seconds.
    from medseg.workflows.train import train as run

    result = run(
        prepared,
        output,
        dims=2 if dims == "2" else 3,
        config=chosen,
        device=device,
        resume=resume,
    )
    if result.evaluation is None:
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps(result.evaluation.summary.model_dump(mode="json"), indent=1, ensure_ascii=False))
    else:
        from medseg.cli.evaluate import show

        show(result.evaluation)
    say(
        f"{result.steps} steps in {result.seconds / 60:.1f} min. Model: {result.model}; curves: "
        f"{output / 'progress.png'}; validation masks: {output / 'validation'}"
    )
    if result.evaluation.problems:
        raise typer.Exit(1)
