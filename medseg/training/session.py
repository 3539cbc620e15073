"""One sitting of a run: from its beginning or its checkpoint until it is done, or interrupted."""

import datetime
import platform
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import monai
import torch

from medseg.dataset.patches import Batch, PatchSampler
from medseg.device import Device
from medseg.errors import TrainingError, reading
from medseg.inferers.model import ModelRecord, save_model
from medseg.networks.network import Network
from medseg.networks.pretrained import load_pretrained
from medseg.networks.registry import build_network
from medseg.process_group import ALONE, ProcessGroup
from medseg.progress import counted, say, warn
from medseg.training.checkpoint import ADVICE, Progress, load_checkpoint, save_checkpoint
from medseg.training.clock import Clock
from medseg.training.initial import InitialModel
from medseg.training.interruption import interruptible
from medseg.training.journal import Journal
from medseg.training.learner import Epoch, Learner
from medseg.training.run import Run
from medseg.training.schedule import Join
from medseg.training.validation import Validation, validate
from medseg.training.watchdog import Change, NotANumber, Watchdog
from medseg.transforms.augmentation.pipeline import augmentation_for
from medseg.version import VERSION

SECONDS_BETWEEN_CHECKPOINTS = 30.0
# A Dice that is better by less does not keep the patience up.
BETTER = 0.0005


class Session:
    """One sitting of a run: everything built, the checkpoint loaded where there is one, and the epochs."""

    def __init__(self, run: Run, device: Device, started: float, processes: ProcessGroup = ALONE) -> None:
        self.run, self.device, self.processes = run, device, processes
        self.settings = run.config.training
        resumes = processes.first(run.checkpoint.is_file)
        network = self._network(resumes)
        labels = run.dataset.labels
        augmentation = augmentation_for(run.plan, run.config.augmentation)
        self.learner = Learner(network, run.plan, self.settings, augmentation, device, processes)
        self.sampler = PatchSampler(
            run.dataset,
            run.split.training,
            run.plan,
            batch_size=run.plan.batch_size,
            foreground_fraction=self.settings.foreground_fraction,
            seed=self.settings.seed,
            margin=run.plan.in_space(network.margin, 0),
            share=processes.share(run.plan.batch_size),
        )
        self.progress = Progress()
        self.watchdog = Watchdog(self.settings.foreground_fraction)
        if resumes:
            self.progress = self._load(run.checkpoint)
            self.watchdog = self._watchdog(self.progress)
            device.threads.count = self.progress.threads
            say(f"Resuming at step {self.progress.step}, after {self.progress.seconds / 60:.1f} min")
        self._obey_watchdog()
        self.step, self.best_dice = self.progress.step, self.progress.best_dice
        self.validations_since_best = self.progress.validations_since_best
        self.last_rate = self.progress.learning_rate
        total = self.settings.epochs * self.settings.steps_per_epoch
        self.clock = Clock(total, seconds_before=self.progress.seconds, started=started, processes=processes)
        self.first_step = self.step
        self.journal = Journal(run.folder, labels, self.step) if processes.is_first else None
        self.saved_at = time.monotonic()
        self.validated_at = time.monotonic()
        self.validation_seconds = 0.0
        self.validated_step: int | None = None

    def _network(self, resumes: bool) -> Network:
        """With random weights, or those that the user gave to begin with; a checkpoint brings its own."""
        config, plan = self.run.config, self.run.plan
        labels, channels = self.run.dataset.labels, self.run.dataset.record.channels
        torch.manual_seed(self.settings.seed)
        outputs = len(plan.outputs(labels))
        network = build_network(len(channels), outputs, plan.architecture, config.network.checkpointing)
        weights, init = config.network.weights, config.training.init
        if weights is not None and not resumes:
            random = load_pretrained(network, Path(weights))
            say(f"Weights from {weights}; {counted(len(random), 'parameter')} stay random")
        if init is not None and not resumes:
            say(f"Weights from {init}: {InitialModel.read(Path(init)).load_into(network, plan, labels, channels)}")
        return network

    def tell(self) -> None:
        plan, split = self.run.plan, self.run.split
        n = sum(parameter.numel() for parameter in self.learner.network.parameters())
        say(
            f"Training a {plan.dims}D {plan.architecture.name} of {n:,} parameters (features "
            f"{'-'.join(map(str, plan.architecture.features))}) on {self.device}: "
            f"{counted(len(split.training), 'case')}, {len(split.validation)} to validate; "
            f"batches of {plan.batch_size} patches of {'×'.join(map(str, plan.network_patch))} voxels"
        )
        if plan.regions:
            say(f"It learns regions, which may overlap: {', '.join(region.name for region in plan.regions)}")
        pairs = {tuple(sorted(pair)) for pair in (*plan.mirrored_pairs, *self.run.dataset.labels.left_right_pairs)}
        if pairs and self.run.config.augmentation.mirror in ("left-right", "all"):
            told = ", ".join(" and ".join(pair) for pair in sorted(pairs))
            say(f"Left and right: {told} look like mirror images of each other, so nothing is mirrored along that axis")
        if set(split.training) & set(split.validation):
            warn("There is one case (or one group) only: it is validated on itself, which says nothing")

    def train(self, budget: float | None) -> bool:
        """Epochs until the schedule is done, or patience is at its end (True), or the user interrupts (False). The
        schedule follows the clock where there is a ``budget`` in seconds, over all sittings."""
        self.clock.budget = budget
        self._join_schedule()
        if self.step == 0:
            self._write(self.run.good_checkpoint)
        batches = self.sampler.prefetched(self.step)
        with interruptible(self.processes) as interrupted, closing(self.journal) if self.journal else nullcontext():
            while not (stopped := interrupted()) and self.clock.progress(self.step) < 1 and not self._out_of_patience():
                batches = self._epoch(batches, interrupted)
        batches.close()
        done = not stopped
        if done and self._out_of_patience():
            say(f"No better validation Dice in {counted(self.validations_since_best, 'validation')}: stopping early")
        if done and self.step == 0 and self.processes.is_first:
            warn("There was no time for a single step: the network has learnt nothing; give a longer --max-time")
        if done and self.step != self.validated_step and (self.step > self.first_step or self.best_dice is None):
            self._keep_better(self._validate())
        self.save()
        return done

    def _join_schedule(self) -> None:
        """A run whose length was changed goes over to its new schedule without a jump of the learning rate."""
        joined, before = self.progress.joined, self.progress.length
        if before and before != self._length:
            here = self.clock.progress(self.step)
            joined = (here, self.last_rate)
            self.watchdog.start_from(self.step, here, good=True)
            say(f"The run is now {self._length} long, and was {before}: its learning rate moves on from where it is")
        self.learner.schedule.join = None if joined is None else Join(*joined)

    @property
    def _length(self) -> str:
        """Of the schedule, as it stands in the settings."""
        max_time = self.settings.max_time
        return f"{self.settings.epochs} epochs" if max_time is None else f"{max_time:.0f} s"

    def _out_of_patience(self) -> bool:
        return self.settings.patience is not None and self.validations_since_best >= self.settings.patience

    def _epoch(
        self, batches: Generator[Batch, None, None], interrupted: Callable[[], bool]
    ) -> Generator[Batch, None, None]:
        """Goes on to the end of the epoch; returns the batches to go on with."""
        size = self.settings.steps_per_epoch
        last = self.step - self.step % size + size
        try:
            epoch = self.learner.epoch(
                batches,
                self.step,
                min(last, self.clock.total_steps) if self.clock.budget is None else last,
                lambda step: 1.0 if interrupted() else self.clock.progress(step),
            )
        except NotANumber as error:
            return self._change(self.watchdog.after(error, self._damaged_cases(error.step)), batches)
        if epoch.step == self.step:
            return batches
        self.step, self.last_rate = epoch.step, epoch.learning_rate
        self.watchdog.see(epoch.confusion)
        change = self._judge() if self.step == last else None
        if change is not None and change.goes_back:
            return self._change(change, batches)
        # Not after an interruption: who sent the signal may not wait that long for the checkpoint.
        self._report(epoch, self._validate() if self._validation_is_due() and not interrupted() else None)
        return batches if change is None else self._change(change, batches)

    def _report(self, epoch: Epoch, validation: Validation | None) -> None:
        if validation is not None:
            self._keep_better(validation)
        if self.journal is not None:
            for change in self.device.threads.told():
                self.journal.remark(change)
            left = self.clock.time_left(self.step, self.first_step)
            self.journal.add(epoch, self.clock.seconds, validation, left)
        # With each validation too, so that a resumed run knows of the best model that lies in RUN/model.
        if validation is not None or time.monotonic() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def _judge(self) -> Change | None:
        """What the watchdog changed after a whole epoch; a good state is kept, to go back to."""
        progress = self.clock.progress(self.step)
        change = self.watchdog.judge(self.run.dataset.labels.unions, self.step, progress)
        if change is None and self.watchdog.is_good(progress):
            self.watchdog.good_at = progress
            self._write(self.run.good_checkpoint)
        return change

    def _change(self, change: Change, batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        """Goes on with a changed setting, from the last good state where that is asked for; returns the batches."""
        batches.close()
        note = change.note
        if change.goes_back:
            came_to = self.step
            self.step = self._load(self.run.good_checkpoint).step
            note = f"Back to step {self.step} from {came_to}: {note}"
            self.watchdog.start_from(self.step, self.clock.progress(self.step))
        self._obey_watchdog()
        if self.journal is not None:
            warn(note)
            self.journal.go_back(self.step, note)
        self.save()
        return self.sampler.prefetched(self.step)

    def _obey_watchdog(self) -> None:
        """Raises ``TrainingError`` when no case is left."""
        left_out = set(self.watchdog.left_out)
        self.learner.schedule.factor = self.watchdog.rate_factor
        self.sampler.foreground_fraction = self.watchdog.foreground_fraction
        self.sampler.case_ids = tuple(case for case in self.run.split.training if case not in left_out)
        if not self.sampler.case_ids:
            raise TrainingError(f"{self.run.dataset.folder}: no image is left whose values are numbers; prepare again")

    def _damaged_cases(self, step: int) -> list[str]:
        """Of the batch at ``step``: those whose images hold what is no number."""
        batch = self.sampler.batch(step)
        fine = batch.image.isfinite().flatten(1).all(1).tolist()
        return sorted({case_id for case_id, is_fine in zip(batch.case_ids, fine, strict=True) if not is_fine})

    def _validation_is_due(self) -> bool:
        """So that validation takes no more than its share of the time."""
        waited = time.monotonic() - self.validated_at
        return self.processes.first(lambda: waited * self.settings.validation_share >= self.validation_seconds)

    def _validate(self) -> Validation:
        result = validate(
            self.learner.average,
            self.run.dataset,
            self.run.split.validation,
            self.run.plan,
            self.run.config.inference,
            self.device,
            self.processes,
        )
        self.validated_at, self.validation_seconds = time.monotonic(), result.seconds
        self.validated_step = self.step
        return result

    def _keep_better(self, validation: Validation) -> None:
        """Writes RUN/model when it is the best so far."""
        dice, best = validation.mean_dice, self.best_dice
        self.validations_since_best = 0 if best is None or dice > best + BETTER else self.validations_since_best + 1
        if best is None or dice >= best:
            self.best_dice = dice
            self.save_average("model", {"validation_dice_on_model_grid": validation.dice})

    def save_average(self, name: str, metrics: dict[str, Any]) -> None:
        if not self.processes.is_first:
            return
        run = self.run
        record = ModelRecord(
            medseg=VERSION,
            plan=run.plan,
            labels=run.dataset.labels,
            channels=run.dataset.record.channels,
            said_spacings=run.dataset.record.said_spacings,
            channel_dropout=run.config.augmentation.channel_dropout_probability > 0,
            inference=run.config.inference,
            usual_values=run.dataset.usual_values,
            provenance={
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "monai": monai.__version__,
                "training_cases": len(self.sampler.case_ids),
                "steps": self.step,
                "seed": self.settings.seed,
                "init": self.settings.init and Path(self.settings.init).resolve().name,
                "watchdog": self.watchdog.notes,
            },
            metrics=metrics,
        )
        save_model(run.folder / name, record, self.learner.average.state_dict())

    def save(self) -> None:
        """The checkpoint and, with it, the last model."""
        self._write(self.run.checkpoint)
        self.save_average("model-last", {})
        self.saved_at = time.monotonic()

    def _write(self, path: Path) -> None:
        if not self.processes.is_first:
            return
        learner, join = self.learner, self.learner.schedule.join
        progress = Progress(
            step=self.step,
            seconds=self.clock.seconds,
            best_dice=self.best_dice,
            validations_since_best=self.validations_since_best,
            length=self._length,
            learning_rate=self.last_rate,
            joined=None if join is None else (join.progress, join.rate),
            scaler=learner.scaler.state_dict(),
            watchdog=self.watchdog,
            threads=self.device.threads.count,
        )
        save_checkpoint(path, progress, learner.network.state_dict(), learner.average.state_dict(), learner.optimizer)

    def _load(self, path: Path) -> Progress:
        learner = self.learner
        progress = load_checkpoint(path, learner.network, learner.average, learner.optimizer)
        if progress.scaler:
            with reading(path, "a checkpoint of fp16 training", ADVICE, TrainingError):
                learner.scaler.load_state_dict(progress.scaler)
        return progress

    def _watchdog(self, progress: Progress) -> Watchdog:
        """As it was at a checkpoint. Raises ``TrainingError`` for one that has seen other labels."""
        if progress.watchdog is None:
            return self.watchdog
        n = len(self.run.dataset.labels.items) + 1
        if progress.watchdog.counts and [len(row) for row in progress.watchdog.counts] != [n] * n:
            raise TrainingError(f"{self.run.checkpoint}: its watchdog has seen other labels; {ADVICE}")
        return progress.watchdog
