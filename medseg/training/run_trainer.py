"""The trainer of a run: its parts put together, with the callbacks that write the run's folder."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path

import torch
from torch import nn

from medseg.dataset.patches import PatchSampler
from medseg.device import Device
from medseg.errors import MedsegError, TrainingError
from medseg.evaluation.evaluation import Evaluation
from medseg.networks.pretrained import load_pretrained
from medseg.networks.registry import build_network
from medseg.parallel import processor_count
from medseg.prediction.case_writing import try_mask
from medseg.process_group import ALONE, ProcessGroup
from medseg.progress import counted, say, warn
from medseg.report.patches import PatchPicture, patch_pictures
from medseg.training.callback import Callback
from medseg.training.callbacks.checkpoint import Checkpoint
from medseg.training.callbacks.early_stopping import EarlyStopping
from medseg.training.callbacks.journal import Journal
from medseg.training.callbacks.live_table import LiveTable
from medseg.training.callbacks.mlflow import MLflow
from medseg.training.callbacks.model import SaveModel
from medseg.training.callbacks.tensorboard import TensorBoard
from medseg.training.callbacks.time_budget import TimeBudget
from medseg.training.callbacks.validation import Validation
from medseg.training.callbacks.watchdog import Watchdog
from medseg.training.initial import InitialModel
from medseg.training.parts import NO_OWN_PARTS, OwnParts, make_trainer
from medseg.training.run import Run
from medseg.training.run_record import runs_of
from medseg.training.teacher import Teacher
from medseg.training.time_shares import TimeShares
from medseg.training.trainer import Trainer

# Threads that read batches for a GPU, each of which holds a batch in memory.
MOST_READERS = 6
PATCHES_SHOWN = 8  # about


@dataclass(frozen=True)
class TrainResult:
    """A finished training; ``evaluation`` is that of the cases that were not trained on, on their source grids.

    Of a run of all folds, steps and seconds are those of all.
    """

    folder: Path
    model: Path
    steps: int
    seconds: float
    finished: bool  # False when the run was interrupted; resume goes on with it
    evaluation: Evaluation | None


def trainer_of(
    run: Run, device: Device, processes: ProcessGroup = ALONE, own: OwnParts = NO_OWN_PARTS
) -> tuple[Trainer, PatchSampler]:
    """Returns the trainer of a run with the user's callbacks only, and its batches; its checkpoint is taken up.

    Raises:
        TrainingError: When the checkpoint is damaged or of another network, or a part of the user's own is missing.
        ConfigError: When the network cannot be built.
    """
    own.check_given(run.config, run.folder)
    resumes = processes.first(run.checkpoint.is_file)
    network = make_network(run, own, resumes)
    trainer = make_trainer(network, run.plan, run.config, device, processes, own)
    if run.config.training.teacher is not None:
        teacher = Teacher.read(run.config.training.teacher, device)
        teacher.check(run.plan, run.dataset.labels, run.dataset.record.channels)
        trainer.loss = teacher.loss(trainer.loss, run.config.training.teacher_weight)
    if resumes:
        trainer.resume(run.checkpoint)
    sampler = make_sampler(run, network, processes)
    sampler.readers = readers_for(device, processes)
    return trainer, sampler


def callbacks_of(run: Run, sampler: PatchSampler, trainer: Trainer, shares: TimeShares) -> list[Callback]:
    """Returns what medseg does beside the loop, and the callbacks of the trainer.

    Args:
        run: Whose folder is written.
        sampler: Its batches.
        trainer: Whose callbacks, those of plugins and of the user, are told before the checkpoint is written.
        shares: What ``training.max_time`` leaves for training, and the cases that are validated.
    """
    settings, unions = run.config.training, run.dataset.labels.unions
    callbacks: list[Callback] = [Watchdog(run.good_checkpoint, unions, sampler)]
    if isfinite(shares.once):
        share = settings.validation_share
        callbacks.append(Validation(run.dataset, shares.cases, run.config.inference, share, shares.once))
    callbacks.append(SaveModel(run))
    if settings.max_time is not None:
        callbacks.insert(0, TimeBudget(shares.training))
    if settings.patience is not None:
        callbacks.append(EarlyStopping(settings.patience))
    if trainer.processes.is_first:
        journal = Journal(run.folder, run.dataset.labels, settings.metric)
        callbacks += [journal, LiveTable(journal), TensorBoard(run.folder / "events", run.dataset.labels)]
        if MLflow.is_wanted():
            callbacks.append(MLflow(run.folder.resolve().name, unions=unions))
    return [*callbacks, *trainer.callbacks, Checkpoint(run.checkpoint)]


def make_network(run: Run, own: OwnParts = NO_OWN_PARTS, resumes: bool = False) -> nn.Module:
    """Returns the network of a run with random weights, or those that the user gave to begin with.

    Args:
        run: The run.
        own: The user's network takes the place of the one that the plan names.
        resumes: A checkpoint brings the weights.

    Raises:
        ConfigError: Where the network cannot be built, or its first weights don't fit.
    """
    config, plan = run.config, run.plan
    labels, channels = run.dataset.labels, run.dataset.record.channels
    torch.manual_seed(config.training.seed)
    if own.network is not None:
        return copy.deepcopy(own.network)  # each fold begins with the same weights
    outputs = len(plan.outputs(labels))
    network = build_network(len(channels), outputs, plan.architecture, config.network.checkpointing)
    weights, init = config.network.weights, config.training.init
    if weights is not None and not resumes:
        random = load_pretrained(network, Path(weights))
        say(f"Weights from {weights}; {counted(len(random), 'parameter')} stay random")
    if init is not None and not resumes:
        say(f"Weights from {init}: {InitialModel.read(Path(init)).load_into(network, plan, labels, channels)}")
    return network


def make_sampler(run: Run, network: nn.Module, processes: ProcessGroup = ALONE) -> PatchSampler:
    """Returns the batches of a run; each process reads its share of them."""
    plan, settings = run.plan, run.config.training
    sampler = PatchSampler(
        run.dataset.subset(run.split.training),
        plan,
        batch_size=plan.batch_size,
        foreground_fraction=settings.foreground_fraction,
        seed=settings.seed,
        margin=plan.in_space(getattr(network, "margin", (0,) * plan.dims), 0),
    )
    sampler.by_component = settings.foreground_by == "components"
    return sampler.shared(processes.share(plan.batch_size))


def readers_for(device: Device, processes: ProcessGroup = ALONE) -> int:
    """Returns how many threads read batches: enough that a GPU waits for none; one where the processor trains."""
    if not device.is_cuda:
        return 1
    return max(1, min(MOST_READERS, processor_count() // (2 * processes.size)))


def tell(run: Run, trainer: Trainer) -> None:
    """Tells what is trained, on what."""
    plan, split = run.plan, run.split
    n = sum(parameter.numel() for parameter in trainer.network.parameters())
    say(
        f"Training a {plan.dims}D {plan.architecture.name} of {n:,} parameters (features "
        f"{'-'.join(map(str, plan.architecture.features))}) on {trainer.device}: "
        f"{counted(len(split.training), 'case')}, {len(split.validation)} to validate; "
        f"batches of {plan.batch_size} patches of {'×'.join(map(str, plan.network_patch))} voxels"
    )
    if plan.regions:
        say(f"It learns regions, which may overlap: {', '.join(region.name for region in plan.regions)}")
    pairs = {tuple(sorted(pair)) for pair in (*plan.mirrored_pairs, *run.dataset.labels.left_right_pairs)}
    if pairs and run.config.augmentation.mirror in ("left-right", "all"):
        told = ", ".join(" and ".join(pair) for pair in sorted(pairs))
        say(f"Left and right: {told} look like mirror images of each other, so nothing is mirrored along that axis")
    if set(split.training) & set(split.validation):
        warn("There is one case (or one group) only: it is validated on itself, which says nothing")


def example_patches(run: Run, sampler: PatchSampler, trainer: Trainer) -> Iterator[PatchPicture]:
    """Yields pictures of the first batches of a run, after augmentation."""
    plan, labels = run.plan, run.dataset.labels
    spacing = [plan.grid.spacing[axis] for axis in plan.spatial_axes]
    for step in range(ceil(PATCHES_SHOWN / plan.batch_size)):
        batch = sampler.batch(step)
        data = {"image": batch.image, "label": batch.label}
        augmented = trainer.augmentation(data, seed=(trainer.settings.seed, step))
        images, label_maps = augmented["image"].numpy(), augmented["label"].numpy()
        yield from patch_pictures(images, label_maps, batch.case_ids, spacing, labels)


def check_held_back(runs: Sequence[Run]) -> None:
    """Checks that validation will be possible, and says where it will be too good: now, not after hours of training.

    Raises:
        SourceError: A file of a held-back case is gone.
        TrainingError: No mask of one can be written.
    """
    _warn_of_learnt_cases(runs)
    dataset = runs[0].dataset
    held_back = [case for run in runs for case in dataset.source_cases(run.split.validation)]
    case = held_back[0]
    try:
        try_mask(case, dataset.labels)
    except MedsegError as error:
        raise TrainingError(
            f"{case.images[0].path}: no mask of this image can be written, so no model can be validated on it; put its "
            f"header right or leave the case out, and prepare the dataset again ({error})"
        ) from error


def _warn_of_learnt_cases(runs: Sequence[Run]) -> None:
    """Says where the model that runs begin with, or learn from, was trained on cases that they hold back."""
    prepared = str(runs[0].dataset.folder.resolve())
    held_back = {case_id for run in runs for case_id in run.split.validation}
    for setting in ("init", "teacher"):
        path = getattr(runs[0].config.training, setting)
        others = [] if path is None else [each for each in runs_of(Path(path)) if each.prepared == prepared]
        learnt = held_back & {case_id for other in others for case_id in other.training}
        if learnt:
            some = f"{len(learnt)} of {counted(len(held_back), 'held-back case')}"
            warn(
                f"training.{setting}: {path} was trained on {some}, so validation is too good; give both runs the same "
                "training.fold and training.folds"
            )
