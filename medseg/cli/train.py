"""medseg train."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medseg.cli.choosing import Cluster, workers_of
from medseg.cli.json_output import print_json
from medseg.cli.plugins import Plugins
from medseg.progress import RANK, say

if TYPE_CHECKING:
    from medseg.cluster.training_job import TrainingCommand
    from medseg.training.forecast import Forecast
    from medseg.training.run_trainer import TrainResult


def train(
    prepared: Annotated[Path, typer.Argument(help="A folder that 'medseg preprocess' made.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the run: model, log, curves, validation.")],
    dims: Annotated[
        Literal["2", "3"] | None,
        typer.Option(help="A network that sees slices (2) or volumes (3). [default: 3, of pictures 2]"),
    ] = None,
    network: Annotated[str | None, typer.Option(help="Network by name. [default: unet]")] = None,
    fold: Annotated[
        str | None,
        typer.Option(metavar="0-4|all", help="Which fifth of the cases validates; all: five networks. [default: 0]"),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(help="Time for the whole run, as in 90s, 30m or 2h; the schedule follows the clock."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Length of the run in epochs, instead of --max-time.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="End after so many validations that were no better, by --metric.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What the best weights have of held-back cases: dice, iou, surface_dice, lesion_f1, panoptic_quality, "
            "centreline_dice, or of objects object_ap, object_ap_50, object_panoptic_quality. [default: dice]"
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A model to begin with, of medseg, nnU-Net or nnssl; its labels and channels may be others.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="A larger model of the same data; a network of half its width learns from it."
        ),
    ] = None,
    prompts: Annotated[
        bool,
        typer.Option(
            "--prompts",
            help="Let it take clicks, boxes and scribbles, too; --set training.prompts=any: at things without a label.",
        ),
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    config: Annotated[list[Path] | None, typer.Option("-c", "--config", help="YAML file with settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as in training.learning_rate=1e-3.")
    ] = None,
    plugins: Plugins = None,
    cluster: Cluster = None,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help="With --cluster slurm: one network on so many nodes, in a job that ends by itself."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with a run, with the settings that it began with; --epochs or --max-time make it longer.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Try a few steps, and tell what the run will take; with --nodes print the job; nothing is written.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the validation metrics as JSON, no table.")] = False,
) -> None:
    """Trains a U-Net and validates it on whole cases that it has not seen.

    The run's folder gets model/ (the best of the validations), model-last/, log.csv, progress.png, TensorBoard events,
    config.yaml, checkpoint/ and validation/ with masks and metrics. Ctrl-C writes a checkpoint; --resume goes on.
    With --fold all there are five such folders in it, and model/ is their ensemble; with --cluster the folds are
    trained at the same time. With --nodes the command submits a job of SLURM and returns; the job goes back into the
    queue at the end of its time, and goes on.

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
        "training.patience": patience,
        "training.metric": metric,
        "training.init": init,
        "training.teacher": teacher,
        "training.seed": seed,
    }
    overrides = [
        *(["training.prompts=labels"] if prompts else []),  # first, since --set may say more
        *of_training(settings or []),
        *(f"{key}={value}" for key, value in options.items() if value is not None),
    ]
    fresh = (settings, config, dims, network, fold, init, teacher, prompts, metric)
    if resume and (any(fresh) or seed is not None):
        raise typer.BadParameter(
            "--resume goes on with the run's own settings; only --epochs, --max-time and --patience may change"
        )
    from medseg.plugins import load_plugins

    load_plugins(plugins or ())  # the settings may name what they register
    chosen = load(config, overrides)
    chosen_dims: Literal[2, 3] | None = None if dims is None else 2 if dims == "2" else 3
    if dry_run and resume:
        raise typer.BadParameter("--dry-run is for a run that has not begun; leave --resume out")
    if nodes is not None:
        from medseg.cluster.training_job import TrainingCommand

        command = TrainingCommand(prepared, output, chosen_dims, chosen, device, tuple(plugins or ()))
        submitted_or_shown(command, cluster, nodes, dry_run)
        return
    # After all that can be refused at once: this brings torch and MONAI, which takes seconds.
    if dry_run:
        from medseg.workflows.forecast import forecast

        show_forecast(forecast(prepared, output, dims=chosen_dims, config=chosen, device=device), as_json)
        return
    from medseg.workflows.train import train as run

    with workers_of(cluster, tasks=1) as executor:
        result = run(prepared, output, dims=chosen_dims, config=chosen, device=device, resume=resume, executor=executor)
    if RANK == 0:
        show_result(result, output, as_json)
    if result.evaluation is None or result.evaluation.problems:
        raise typer.Exit(1)


def of_training(settings: list[str]) -> list[str]:
    """Returns what ``--set`` says.

    Raises:
        BadParameter: A setting is none of a training.
    """
    for setting in settings:
        if setting.startswith(("preprocessing.", "planning.")) and ".cpu_" not in setting:
            raise typer.BadParameter(f"--set {setting} is settled when data are prepared; give it to medseg preprocess")
    return settings


def submitted_or_shown(command: "TrainingCommand", cluster: str | None, nodes: int, dry_run: bool) -> None:
    """Submits the job of a training, or prints its script."""
    from medseg.cluster.training_job import job_script, submit

    script = job_script(command, cluster, nodes)
    if dry_run:
        typer.echo(script, nl=False)
        return
    number = submit(command, script)
    say(f"Job {number}; what it says: {command.output / 'train.log'}; called again, it goes on")


def show_result(result: "TrainResult", output: Path, as_json: bool) -> None:
    """Prints what a training made, as text or as JSON."""
    if result.evaluation is None:
        return
    if as_json:
        print_json(result.evaluation.summary.model_dump(mode="json"))
    else:
        from medseg.cli.evaluate import show

        show(result.evaluation)
    curves = output / ("fold_*/progress.png" if (output / "fold_0").is_dir() else "progress.png")
    say(
        f"{result.steps} steps in {result.seconds / 60:.1f} min. Model: {result.model}; curves: {curves}; "
        f"validation masks: {output / 'validation'}"
    )


def show_forecast(forecast: "Forecast", as_json: bool) -> None:
    """Prints what a training will take, as text or as JSON."""
    if as_json:
        print_json(forecast.as_json())
        return
    from datetime import timedelta

    from medseg.inferers.memory_plan import in_units

    seconds = forecast.training_seconds + forecast.validation_seconds
    steps = round(forecast.training_seconds / forecast.step_seconds) if forecast.steps is None else forecast.steps
    typer.echo(f"Steps    {steps:,} of {forecast.step_seconds:.3g} s")
    typer.echo(
        f"Time     {timedelta(seconds=round(seconds))}, {timedelta(seconds=round(forecast.validation_seconds))} of it "
        "for validation at the end"
    )
    typer.echo(f"Memory   {in_units(round(forecast.peak_memory_mb * 2**20))}")
    typer.echo(f"Disk     {in_units(round(forecast.disk_mb * 2**20))}")
