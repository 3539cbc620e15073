"""train: a prepared dataset goes in; a model and its validation come out. A run can be killed and resumed."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from medseg.config import Config
from medseg.dataset.store import PreparedDataset
from medseg.device import Device, choose_device
from medseg.evaluation.evaluation import Evaluation
from medseg.instances.stored_targets import store_targets
from medseg.process_group import ProcessGroup, check_batch, device_of_rank, joined
from medseg.progress import say
from medseg.report.training import write_training
from medseg.training.callback import Callback
from medseg.training.click_comparison import choose_by_clicks
from medseg.training.device_check import sound_device, usual_plan
from medseg.training.folds_on_workers import FoldsRequest, train_folds_on_workers
from medseg.training.inference_fit import fit_inference, with_fit_of
from medseg.training.own_network import with_own_network
from medseg.training.parts import OwnParts, check_plugin_callbacks, plugin_callbacks
from medseg.training.run import Run, reopen_runs, start_runs
from medseg.training.run_trainer import TrainResult, callbacks_of, check_held_back, example_patches, tell, trainer_of
from medseg.training.teacher_comparison import compare_with_teacher
from medseg.training.time_shares import shares_of_time
from medseg.workflows.final_validation import final_validation
from medseg.workflows.folds import train_folds


def train(
    prepared: str | Path,
    output: str | Path,
    *,
    dims: Literal[2, 3] | None = None,
    config: Config | None = None,
    device: str = "auto",
    resume: bool = False,
    network: nn.Module | None = None,
    loss: nn.Module | None = None,
    transforms: Callable[..., Any] | None = None,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    schedule: Callable[[float], float] | None = None,
    callbacks: Sequence[Callback] = (),
    executor: Executor | None = None,
) -> TrainResult:
    """Trains a network on a folder that ``preprocess`` made, and validates it on the cases of one fold, or of each.

    A run can be killed at any time, and goes on with ``resume``. Ctrl-C writes a checkpoint and returns with
    ``finished=False``. With ``training.fold="all"`` there is a run for each fold, ``output/fold_0`` and so on, one
    after the other; they share ``max_time``. Their models predict together: ``output/model`` is an ensemble.
    ``output/validation`` has the masks of all cases, each by the network that was not trained on it. In a script that
    torchrun started, all its processes train one network together.

    Args:
        prepared: The folder that ``preprocess`` made.
        output: The folder of the run.
        dims: 2 for a network that sees slices, 3 for volumes. None: those of ``training.init``, else 3; of pictures 2.
        config: All other settings. With ``resume`` only ``training.epochs``, ``max_time`` and ``patience`` may change.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        resume: Go on with the run in ``output``, with its own dims and settings.
        network: A module of images ``(batch, channel, *spatial)`` that gives logits ``(batch, output, *spatial)``: the
            background and the labels of the dataset, or its regions. Its patch is the plan's
            (``planning.patch_size``). It is copied: each fold begins with its weights. One of ``create_network`` is
            stored by its name. Of any other the model says that it is a custom one, and ``predict`` needs the module
            again. None: the network that ``network.name`` names.
        loss: A module of ``(logits, target)``, as in ``medseg.losses`` and ``monai.losses``; ``target`` is
            ``(batch, 1, *spatial)``, in network values. None: Dice and cross-entropy.
        transforms: Of training patches, instead of medseg's augmentation: a MONAI ``Compose`` of dictionary
            transforms, which see a sample ``(channel, *spatial)`` each, or a function of whole batches.
        optimizer: A function of the parameters, as ``torch.optim.AdamW`` is one. Its learning rate is the highest of
            the schedule.
        schedule: The learning rate after the warm-up, as a part of the highest one: a function of the part that is
            done, in 0 … 1. ``lambda done: 1 - done`` falls in a straight line. None: ``training.schedule``.
        callbacks: Told what happens, after medseg's own: see ``medseg.training.callbacks``.
        executor: Trains the folds of ``"all"``, several at a time: see ``medseg.open_cluster``, with ``tasks=1``.

    Returns:
        Where the model lies, and its validation.

    Raises:
        MedsegError: For a source that isn't prepared, for wrong settings, and when the loss stays no number.
    """
    started, own = time.monotonic(), OwnParts(network, loss, transforms, optimizer, schedule, callbacks)
    dataset, folder, settings = PreparedDataset(Path(prepared)), Path(output), own.named_in(config or Config())
    check_plugin_callbacks()
    if executor is not None:
        asked = FoldsRequest(folder, dataset.folder, dims, settings, device, resume)
        train_folds_on_workers(asked, executor, own)
        device, resume, config = "cpu", True, None  # what is left is an ensemble, and to evaluate it
    given = device_of_rank(device)
    with joined(given) as processes:
        if resume:
            runs = processes.first(lambda: reopen_runs(folder, dataset, config or Config()))
            chosen = sound_device(_device(given, runs[0].config), lambda: runs[0].plan, dataset, runs[0].config, own)
        else:
            chosen = sound_device(
                _device(given, settings), lambda: usual_plan(dataset, dims, settings), dataset, settings, own
            )
            runs = processes.first(lambda: start_runs(folder, dataset, dims, settings, chosen, processes.size))
            if own.network is not None:
                runs = [with_own_network(run, own.network, chosen) for run in runs]
        check_batch(processes, runs[0].plan.batch_size)
        processes.first(lambda: check_held_back(runs))
        processes.first(lambda: store_targets(dataset, runs[0].plan))
        if runs[0].folder == folder:
            result = _train_run(runs[0], chosen, processes, own, started)
        else:

            def train_fold(run: Run) -> TrainResult:
                return _train_run(with_fit_of(runs[0].folder, run), chosen, processes, own, time.monotonic())

            result = train_folds(folder, runs, train_fold, chosen, processes, own.network)
    if not result.finished:
        say(f"Interrupted at step {result.steps}; go on with: medseg train {prepared} -o {output} --resume")
    return result


def _device(name: str, config: Config) -> Device:
    return choose_device(name, config.training.precision, config.training.threads)


def _train_run(run: Run, device: Device, processes: ProcessGroup, own: OwnParts, started: float) -> TrainResult:
    """Trains one network, from where it stands; ``started`` is when its time began to count."""
    trainer, sampler = trainer_of(run, device, processes, own)
    trainer.clock.started = started
    # Here, since one that is no callback is refused before anything is written.
    trainer.callbacks = [*plugin_callbacks(run.config.training.callbacks), *trainer.callbacks]
    if processes.is_first:
        run.write()
        tell(run, trainer)
    shares = processes.first(lambda: shares_of_time(run, trainer))
    trainer.callbacks = callbacks_of(run, sampler, trainer, shares)
    state = trainer.fit(sampler)

    def validated() -> Evaluation:
        choose_by_clicks(run, shares, device, trainer.clock.seconds)
        fit_inference(run, shares, device, own.network)
        compare_with_teacher(run, shares, device)
        evaluation = final_validation(run, shares.cases, device, own.network)
        write_training(run.folder, run.dataset.labels, evaluation, list(example_patches(run, sampler, trainer)))
        return evaluation

    evaluation = processes.first(validated) if trainer.finished else None
    folder, seconds = run.folder, trainer.clock.seconds
    return TrainResult(folder, folder / "model", state.step, seconds, trainer.finished, evaluation)
