"""One sitting of a run: from its beginning or its checkpoint until it is done, or interrupted."""

import datetime
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import monai
import torch

import medseg
from medseg.augmentation.pipeline import build_augmentation
from medseg.dataset.patches import Batch, PatchSampler
from medseg.device import Device
from medseg.inference.mirroring import mirror_axes
from medseg.inference.model import ModelRecord, save_model
from medseg.networks.pretrained import load_pretrained
from medseg.networks.registry import build_network
from medseg.progress import counted, say, warn
from medseg.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from medseg.training.clock import Clock
from medseg.training.journal import Journal
from medseg.training.learner import Learner
from medseg.training.run import Run
from medseg.training.validation import Validation, validate

SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Session:
    """One sitting of a run: everything built, the checkpoint loaded where there is one, and the epochs."""

    def __init__(self, run: Run, device: Device, started: float) -> None:
        self.run, self.device = run, device
        self.settings = run.config.training
        plan, labels = run.plan, run.dataset.labels
        torch.manual_seed(self.settings.seed)
        n_channels = len(run.dataset.record.channels)
        network = build_network(n_channels, labels.n_outputs, plan.architecture, run.config.network.checkpointing)
        weights = run.config.network.weights
        if weights is not None and not run.checkpoint.is_file():
            random = load_pretrained(network, Path(weights))
            say(f"Weights from {weights}; {counted(len(random), 'parameter')} stay random")
        axes = mirror_axes(plan, labels)
        augmentation = build_augmentation(
            run.config.augmentation,
            dims=plan.dims,
            patch_size=plan.network_patch,
            spacing=[plan.grid.spacing[axis] for axis in plan.spatial_axes],
            mirror_axes=[plan.spatial_axes.index(axis) for axis in axes],
        )
        self.learner = Learner(network, plan, self.settings, augmentation, device)
        self.sampler = PatchSampler(
            run.dataset,
            run.split.training,
            plan,
            batch_size=plan.batch_size,
            foreground_fraction=self.settings.foreground_fraction,
            seed=self.settings.seed,
            margin=plan.in_space(network.margin, 0),
        )
        progress = self._resumed()
        self.step, self.best_dice = progress.step, progress.best_dice
        total = self.settings.epochs * self.settings.steps_per_epoch
        self.clock = Clock(total, seconds_before=progress.seconds, started=started)
        self.journal = Journal(run.folder, labels, self.step)
        self.saved_at = time.monotonic()
        self.validated_at = time.monotonic()
        self.validation_seconds = 0.0
        self.validated_step: int | None = None

    def tell(self) -> None:
        plan, split = self.run.plan, self.run.split
        n = sum(parameter.numel() for parameter in self.learner.network.parameters())
        say(
            f"Training a {plan.dims}D {plan.architecture.name} of {n:,} parameters (features "
            f"{'-'.join(map(str, plan.architecture.features))}) on {self.device}: "
            f"{counted(len(split.training), 'case')}, {len(split.validation)} to validate; "
            f"batches of {plan.batch_size} patches of {'×'.join(map(str, plan.network_patch))} voxels"
        )
        if set(split.training) & set(split.validation):
            warn("There is one case (or one group) only: it is validated on itself, which says nothing")

    def train(self, budget: float | None) -> bool:
        """Epochs until the schedule is done (True) or the user interrupts (False). The schedule follows the clock
        where there is a ``budget`` in seconds, over all sittings."""
        first_step = self.step
        self.clock.budget = budget
        batches = self.sampler.prefetched(self.step)
        with interruptible() as interrupted:
            while self.clock.progress(self.step) < 1 and not interrupted.is_set():
                self._epoch(batches, interrupted, first_step)
        batches.close()
        done = not interrupted.is_set()
        if done and self.step == 0:
            warn("There was no time for a single step: the network has learnt nothing; give a longer --max-time")
        if done and self.step != self.validated_step and (self.step > first_step or self.best_dice is None):
            self._keep_better(self._validate())
        self._save_checkpoint()
        self.journal.close()
        return done

    def _epoch(self, batches: Iterator[Batch], interrupted: threading.Event, first_step: int) -> None:
        last = self.step - self.step % self.settings.steps_per_epoch + self.settings.steps_per_epoch
        epoch = self.learner.epoch(
            batches,
            self.step,
            min(last, self.clock.total_steps) if self.clock.budget is None else last,
            lambda step: 1.0 if interrupted.is_set() else self.clock.progress(step),
        )
        if epoch.step == self.step:
            return
        self.step = epoch.step
        # Not after an interruption: who sent the signal may not wait that long for the checkpoint.
        validation = self._validate() if self._validation_is_due() and not interrupted.is_set() else None
        if validation is not None:
            self._keep_better(validation)
        left = self.clock.time_left(self.step, first_step)
        self.journal.add(epoch, self.clock.seconds, validation, left)
        # With each validation too, so that a resumed run knows of the best model that lies in RUN/model.
        if validation is not None or time.monotonic() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self._save_checkpoint()

    def _validation_is_due(self) -> bool:
        """So that validation takes no more than its share of the time."""
        waited = time.monotonic() - self.validated_at
        return waited * self.settings.validation_share >= self.validation_seconds

    def _validate(self) -> Validation:
        result = validate(
            self.learner.average,
            self.run.dataset,
            self.run.split.validation,
            self.run.plan,
            self.run.config.inference,
            self.device,
        )
        self.validated_at, self.validation_seconds = time.monotonic(), result.seconds
        self.validated_step = self.step
        return result

    def _keep_better(self, validation: Validation) -> None:
        """Writes RUN/model when it is the best so far."""
        if self.best_dice is None or validation.mean_dice >= self.best_dice:
            self.best_dice = validation.mean_dice
            self.save_average("model", {"validation_dice_on_model_grid": validation.dice})

    def save_average(self, name: str, metrics: dict[str, Any]) -> None:
        run = self.run
        record = ModelRecord(
            medseg=medseg.__version__,
            plan=run.plan,
            labels=run.dataset.labels,
            channels=run.dataset.record.channels,
            inference=run.config.inference,
            provenance={
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "monai": monai.__version__,
                "source": run.dataset.record.source,
                "training_cases": len(run.split.training),
                "steps": self.step,
                "seed": self.settings.seed,
            },
            metrics=metrics,
        )
        save_model(run.folder / name, record, self.learner.average.state_dict())

    def _save_checkpoint(self) -> None:
        """The checkpoint and, with it, the last model."""
        scale = self.learner.scaler.get_scale() if self.device.needs_loss_scaling else None
        progress = Progress(self.step, self.clock.seconds, self.best_dice, scale)
        learner = self.learner
        save_checkpoint(
            self.run.checkpoint,
            progress,
            learner.network.state_dict(),
            learner.average.state_dict(),
            learner.optimiser,
        )
        self.save_average("model-last", {})
        self.saved_at = time.monotonic()

    def _resumed(self) -> Progress:
        if not self.run.checkpoint.is_file():
            return Progress(step=0, seconds=0.0, best_dice=None)
        learner = self.learner
        progress = load_checkpoint(self.run.checkpoint, learner.network, learner.average, learner.optimiser)
        if progress.loss_scale is not None:
            learner.scaler = torch.amp.GradScaler(self.device.torch_device.type, init_scale=progress.loss_scale)
        say(f"Resuming at step {progress.step}, after {progress.seconds / 60:.1f} min")
        return progress


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C or SIGTERM into an event that is looked at after each step; a second one ends at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        say("Stopping after this step and writing a checkpoint; once more ends at once")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
