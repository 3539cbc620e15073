"""The trainer: one loop over batches. Everything that is not the loop is a callback."""

import copy
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medseg.dataset.patches import Batch
from medseg.decoding import decoding_of
from medseg.errors import TrainingError
from medseg.losses.heads import Heads, centre_within, in_float32
from medseg.progress import say, warn
from medseg.training.batch_norm import share_batch_norm
from medseg.training.batches import Batches, augmentation_from, batches_from
from medseg.training.callback import Restart
from medseg.training.clock import Clock
from medseg.training.compiled import Trained, compiled
from medseg.training.epoch import Epoch, confusion
from medseg.training.interruption import interruptible
from medseg.training.network_fit import misfit
from medseg.training.optimizers import update_average
from medseg.training.prompting import Prompting, answers_of
from medseg.training.schedule import Join
from medseg.training.state import TrainingState, load_checkpoint, save_checkpoint
from medseg.training.trainer_arguments import TrainerArguments
from medseg.training.watchdog import NotANumber, check_numbers

# The Dice of patches is counted at one step of so many: it takes a hundredth of a step.
STEPS_BETWEEN_LOOKS = 4


class Trainer(TrainerArguments):
    """Trains a network on batches: the loop, and all that changes with its steps.

    What is kept of the network while it is trained, its exponential average, is what validates and predicts best
    (Karras et al. 2024, arXiv:2312.02696). A training that is resumed from a checkpoint goes on to the same weights,
    to the bit, where ``settings.threads`` is given and the batches are those of a ``PatchSampler``.

    Attributes:
        plan: What the outputs stand for, in 2D or 3D. None, for any network: no Dice of training patches is counted.
        network: Any module of images ``(batch, channel, *spatial)``; it gives logits ``(batch, output, *spatial)``, or
            a list of them from the finest down.
        loss: A module of ``(logits, target)``, as ``medseg.losses`` and ``monai.losses`` have them. It gets the logits
            in float32 and the label map ``(batch, 1, *spatial)`` in network values. medseg's own is also given which
            labels were annotated, where that differs between samples.
        optimizer: Of the network's parameters; it may be given as a function of them that makes one. The learning
            rates that it has are the highest of the schedule.
        transforms: Of batches, before the network sees them: see ``augmentation_from``.
        callbacks: Told of what happens, in this order.
        settings: Length and schedule: ``epochs``, ``steps_per_epoch``, ``schedule``, ``warm_up``, ``gradient_clip``,
            ``average_decay``, ``compile`` and ``seed``; a ``TrainingConfig``, or a dictionary of some of its fields.
        device: Where to train, and in which precision. It may be given by its name, "cpu" or "cuda:1"; the precision
            is then that of the settings. "auto" is a GPU where there is one.
        schedule: The learning rate over the part of the training that is done. Given is the decay after the warm-up,
            where the settings do not name it: a function of the part that is done, in 0 … 1, which gives a part of the
            highest rate.
        processes: Those that train one network together.
        state: Where the training is. ``resume`` brings that of a checkpoint.

    ``medseg.training`` has an example.

    Raises:
        ConfigError: The settings, the device or the optimizer cannot be what was given.
    """

    def __post_init__(self, *given: Any) -> None:
        super().__post_init__(*given)
        self.augmentation = augmentation_from(self.transforms)
        self.memory_format = self.device.memory_format(self.dims)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        share_batch_norm(self.network, self.processes)
        wrapped = self.processes.wrap(self.network, self.device)  # the same network
        self.trained: Trained = wrapped
        self.to_compile = wrapped if self.settings.compile else None
        self.decoding = None if self.plan is None else decoding_of(self.plan)
        self.prompting = None
        if self.plan is not None and self.plan.prompts is not None:
            self.prompting = Prompting(self.plan, answers_of(self.network, self.device))
            self.decoding = self.prompting.decoding
        self.centre = centre_within(getattr(self.network, "margin", ()))
        self.scaler = torch.amp.GradScaler(self.device.torch_device.type, enabled=self.device.needs_loss_scaling)
        total = self.settings.epochs * self.settings.steps_per_epoch
        self.clock = Clock(total, self.state.seconds, processes=self.processes)
        self.first_step = 0  # of this call of ``fit``
        self.finished = False
        self.stop_reason = ""
        self.restart: Restart | None = None
        self.interrupted: Callable[[], bool] = lambda: False

    def fit(self, batches: Batches) -> TrainingState:
        """Trains until the schedule is done, a callback stops it, or the user interrupts; returns the state.

        Args:
            batches: See ``batches_from``.

        Raises:
            TrainingError: When the loss is no number and no callback helps, a batch is of the wrong kind, or its
                patches do not fit the network.
        """
        self.stop_reason, self.finished, self.first_step = "", False, self.state.step
        with ExitStack() as closing:
            for callback in reversed(self.callbacks):
                closing.callback(callback.close)
            self.tell("on_fit_begin")
            self._join_schedule()
            self.finished = not self._loop(batches, closing)
            if self.finished and self.stop_reason:
                say(self.stop_reason)
            if self.finished and self.state.step == 0 and self.processes.is_first:
                warn("There was no time for a single step: the network has learnt nothing; give a longer --max-time")
            self.tell("on_fit_end")
        return self.state

    def _loop(self, batches: Batches, closing: ExitStack) -> bool:
        """Trains epoch after epoch until the end; returns whether the user interrupted."""
        state, source, progress = self.state, batches_from(batches, self.state.step), self.clock.progress
        with interruptible(self.processes) as self.interrupted:
            try:
                while not (stopped := self.interrupted()) and not self.stop_reason and progress(state.step) < 1:
                    self._fit_epoch(source)
                    if self.restart is not None:
                        source.close()
                        self._restart(self.restart)
                        source = batches_from(batches, state.step)
            except BaseException:
                closing.close()  # here, where torchrun's SIGTERM does not end the process before the error is told
                raise
            source.close()
        return stopped

    def _fit_epoch(self, batches: Generator[Batch, None, None]) -> None:
        """Does the steps to the end of the epoch, and tells the callbacks."""
        size, first = self.settings.steps_per_epoch, self.state.step
        last = first - first % size + size
        if self.clock.budget is None:
            last = min(last, self.clock.total_steps)
        try:
            epoch = self.run_steps(
                batches, first, last, lambda step: 1.0 if self.interrupted() else self.clock.progress(step)
            )
        except NotANumber as error:
            self.tell("on_not_a_number", error)
            if self.restart is None:
                raise
            return
        if epoch.step == first:
            return
        self.state.step, self.state.learning_rate = epoch.step, epoch.learning_rate
        for callback in self.callbacks:
            callback.on_epoch_end(self, epoch)
            if self.restart is not None and self.restart.checkpoint is not None:
                return  # this epoch is forgotten

    def run_steps(self, batches: Iterator[Batch], first: int, last: int, progress: Callable[[int], float]) -> Epoch:
        """Does the steps ``first`` up to ``last`` (excluded), or fewer when ``progress(step)`` reaches 1.

        Raises:
            NotANumber: Naming the cases, when the loss or its gradient is no number.
        """
        self.network.train()
        losses, norms, confusions, seen = [], [], [], []
        start = time.perf_counter()
        step, rate = first, 0.0
        while step < last and (done := progress(step)) < 1:
            rate = self.schedule.rate(done)
            batch = next(batches, None)
            if batch is None:
                self.stop_reason = "There are no more batches: stopping"
                break
            with self.device.timed(id(self)):
                loss, norm, counts = self._learn(batch, step, rate)
            losses.append(loss)
            norms.append(norm)
            confusions += counts
            seen.append(batch.case_ids)
            step += 1
        if not losses:
            return Epoch(step, float("nan"), float("nan"), rate, 0.0, None)
        # Only here, since reading a loss from a GPU waits for it.
        values, norm_values = torch.stack(losses).cpu(), torch.stack(norms).cpu()
        if self.device.needs_loss_scaling:
            # Steps whose scaled gradients overflow are skipped, and the scale is lowered: part of the method.
            norm_values = norm_values[norm_values.isfinite()]
            check_numbers(values, values, seen, first)
        else:
            check_numbers(values, norm_values, seen, first)
        pace = sum(len(ids) for ids in seen) / (time.perf_counter() - start)
        total = self.processes.sum(torch.stack(confusions).sum(0).cpu()) if confusions else None
        loss, norm = values.mean(), norm_values.mean()
        return Epoch(step, float(loss), float(norm), rate, pace, total, self.device.peak_memory_mb())

    def _learn(self, batch: Batch, step: int, rate: float) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Does a step; returns the loss, the norm of its gradient and, now and then, voxels by label and prediction."""
        optimizer, seed = self.optimizer, self.settings.seed
        for group, peak in zip(optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = rate * (peak / self.peaks[0])
        data = {"image": self.device.send(batch.image), "label": self.device.send(batch.label)}
        if batch.targets is not None:
            data["targets"] = self.device.send(batch.targets)
        annotated = None if batch.annotated is None else self.device.send(batch.annotated)
        data = self.augmentation(data, seed=(seed, step), first=batch.first, n_samples=len(batch.case_ids))
        image, label = unprompted, _ = data["image"], data["label"]
        if self.prompting is not None:
            image, label = self.prompting(image, label, seed=(seed, step), first=batch.first)
        image, label = image.contiguous(memory_format=self.memory_format), label[self.centre]
        if self.to_compile is not None:
            self.trained, self.to_compile = compiled(self.to_compile, image, self.device, seed), None
        optimizer.zero_grad(set_to_none=True)
        torch.manual_seed((seed * 2**32 + batch.first * 2**24 + step) % 2**63)  # of dropout
        logits = self._logits(image)
        heads = in_float32(logits)
        known = {} if annotated is None else {"annotated": annotated}
        if getattr(self.loss, "wants_image", False):  # that of a teacher
            known["image"] = unprompted
        if getattr(self.loss, "wants_targets", False):  # of single objects
            if batch.targets is None:
                raise TrainingError('objects are learnt, and a batch has no "targets": see medseg.dataset.Batch')
            known["targets"] = data["targets"][self.centre]
        loss = self.loss(heads, label, **known)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        update_average(self.average, self.network, step, self.settings.average_decay)
        counts = []
        if self.decoding is not None and step % STEPS_BETWEEN_LOOKS == 0:
            finest = logits if isinstance(logits, torch.Tensor) else logits[0]
            counts = [confusion(finest.detach(), label[:, :1], self.decoding, annotated)]
        return loss.detach(), norm.detach(), counts

    def _logits(self, image: torch.Tensor) -> Heads:
        try:
            with self.device.autocast():
                return self.trained(image)
        except Exception as error:  # whatever its author, MONAI and PyTorch say about the shape
            told = misfit(self.network, image.shape, error)
            if told is None:
                raise
            raise told from error

    def save(self, path: Path) -> None:
        """Writes a checkpoint, whole or not at all; only the first process does."""
        if not self.processes.is_first:
            return
        state = self.state
        state.seconds, state.threads = self.clock.seconds, self.device.threads.count
        state.length, state.scaler = self.length, self.scaler.state_dict()
        save_checkpoint(path, state, self.network.state_dict(), self.average.state_dict(), self.optimizer)

    def load(self, path: Path) -> TrainingState:
        """Brings weights, their average and the optimizer back from a checkpoint; returns its state.

        Raises:
            TrainingError: When the file is missing, damaged or of another network.
        """
        return load_checkpoint(path, self.network, self.average, self.optimizer, self.scaler)

    def resume(self, path: Path) -> None:
        """Goes on from a checkpoint at the next ``fit``. Raises what ``load`` does."""
        self.state = self.load(path)
        self.clock.seconds_before = self.state.seconds
        self.device.threads.count = self.state.threads
        say(f"Resuming at step {self.state.step}, after {self.state.seconds / 60:.1f} min")

    @property
    def length(self) -> str:
        """The length of the schedule in words, as it stands in the settings."""
        max_time = self.settings.max_time
        return f"{self.settings.epochs} epochs" if max_time is None else f"{max_time:.0f} s"

    def tell(self, event: str, *what: object) -> None:
        """Calls the method ``event`` of all callbacks, in their order."""
        for callback in self.callbacks:
            getattr(callback, event)(self, *what)

    def _join_schedule(self) -> None:
        """Takes a training whose length was changed to its new schedule without a jump of the learning rate."""
        before = self.state.length
        if self.state.take_length(self.length, self.clock.progress):
            change = f"The run is now {self.length} long, and was {before}"
            say(f"{change}: its learning rate moves on from where it is")
        self.schedule.join = None if self.state.joined is None else Join(*self.state.joined)

    def _restart(self, restart: Restart) -> None:
        """Goes on, from a checkpoint where that is asked for."""
        self.restart = None
        if restart.checkpoint is not None:
            came_to = self.state.step
            self.state.step = self.load(restart.checkpoint).step
            restart = Restart(f"Back to step {self.state.step} from {came_to}: {restart.note}", restart.checkpoint)
        self.tell("on_restart", restart)
