"""The learner: a network, the average of its weights and an optimizer, taught one batch at a time."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import filterfalse

import torch

from medseg.config import TrainingConfig
from medseg.dataset.patches import Batch
from medseg.decoding import Decoding, decoding_of
from medseg.device import Device
from medseg.labels import IGNORED
from medseg.losses import DiceCrossEntropyLoss, subsampled
from medseg.networks.network import Network
from medseg.networks.registry import entry_of
from medseg.plan import Plan
from medseg.process_group import ALONE, ProcessGroup
from medseg.training.batch_norm import share_batch_norm
from medseg.training.compiled import Trained, compiled
from medseg.training.muon import Muon
from medseg.training.schedule import Schedule
from medseg.training.watchdog import NotANumber
from medseg.transforms.augmentation.pipeline import Augmentation

# The Dice of patches is counted at one step of so many: it takes a hundredth of a step.
STEPS_BETWEEN_LOOKS = 4
# Muon leaves smaller ones to AdamW: those that see the image or make logits are no matrices between features.
SMALLEST_MATRIX = 8


@dataclass(frozen=True)
class Epoch:
    """What a number of steps gave."""

    step: int  # steps done, over the whole run
    loss: float
    gradient_norm: float
    learning_rate: float
    samples_per_second: float
    confusion: torch.Tensor | None  # voxels of some of the patches by label and prediction, both network values
    peak_memory_mb: float = 0.0  # of the GPU, or of the process


class Learner:
    """Owns all that changes while training; ``checkpoint`` stores exactly its parts."""

    def __init__(
        self,
        network: Network,
        plan: Plan,
        config: TrainingConfig,
        augmentation: Augmentation,
        device: Device,
        processes: ProcessGroup = ALONE,
    ) -> None:
        self.config = config
        self.processes = processes
        self.device = device
        self.augmentation = augmentation
        self.memory_format = torch.channels_last_3d if plan.dims == 3 else torch.channels_last
        self.network = device.place(network, plan.dims)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        share_batch_norm(self.network, processes)
        wrapped = processes.wrap(self.network, device)  # the same network
        self.trained: Trained = wrapped
        self.to_compile = wrapped if config.compile else None
        self.decoding = decoding_of(plan)
        weights = config.dice_weight, config.ce_weight
        self.loss = DiceCrossEntropyLoss(
            *weights,
            head_weights=network.head_weights,
            margin=network.margin,
            regions=[region.values for region in plan.regions],
            reduce=processes.sum,
        )
        chosen = config.learning_rate
        peak = entry_of(plan.architecture.name).learning_rate if chosen is None else chosen
        self.schedule = Schedule(peak, config.warm_up, config.schedule)
        self.optimizer = make_optimizer(self.network, peak, config)
        self.scaler = torch.amp.GradScaler(device.torch_device.type, enabled=device.needs_loss_scaling)

    def epoch(self, batches: Iterator[Batch], first: int, last: int, progress: Callable[[int], float]) -> Epoch:
        """Steps ``first`` up to ``last`` (excluded), or fewer when ``progress(step)`` reaches 1.

        Raises ``NotANumber`` naming the cases when the loss or its gradient is none.
        """
        self.network.train()
        losses, norms, confusions, seen = [], [], [], []
        start = time.perf_counter()
        step, rate = first, 0.0
        while step < last and (done := progress(step)) < 1:
            rate = self.schedule.rate(done)
            batch = next(batches)
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
            _check(values, values, seen, first)
        else:
            _check(values, norm_values, seen, first)
        samples = sum(len(ids) for ids in seen)
        seconds = time.perf_counter() - start
        total = self.processes.sum(torch.stack(confusions).sum(0).cpu()) if confusions else None
        return Epoch(
            step,
            float(values.mean()),
            float(norm_values.mean()),
            rate,
            samples / seconds,
            total,
            self.device.peak_memory_mb(),
        )

    def _learn(self, batch: Batch, step: int, rate: float) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        data = {"image": self.device.send(batch.image), "label": self.device.send(batch.label)}
        annotated = None if batch.annotated is None else self.device.send(batch.annotated)
        seed, n_samples = self.config.seed, len(batch.case_ids)
        data = self.augmentation(data, seed=(seed, step), first=batch.first, n_samples=n_samples)
        image = data["image"].contiguous(memory_format=self.memory_format)
        if self.to_compile is not None:
            self.trained, self.to_compile = compiled(self.to_compile, image, self.device, seed), None
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed((seed * 2**32 + batch.first * 2**24 + step) % 2**63)  # of dropout
        with self.device.autocast():
            logits = self.trained(image)
        loss = self.loss(logits, data["label"], annotated)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._update_average(step)
        counts = []
        if step % STEPS_BETWEEN_LOOKS == 0:
            finest = logits if isinstance(logits, torch.Tensor) else logits[0]
            counts = [confusion(finest.detach(), data["label"][self.loss.centre], self.decoding, annotated)]
        return loss.detach(), norm.detach(), counts

    def _update_average(self, step: int) -> None:
        """An exponential average over a tenth of the steps so far, so that it suits runs of any length and soon forgets
        the random first weights (Karras et al. 2024, arXiv:2312.02696, section 3.1), or less by ``average_decay``."""
        decay = (1 + step) / (10 + step)
        if self.config.average_decay is not None:
            decay = min(self.config.average_decay, decay)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
            for averaged, current in zip(self.average.buffers(), self.network.buffers(), strict=True):
                averaged.copy_(current)  # the statistics of batch normalization are averages already


def confusion(
    logits: torch.Tensor, label: torch.Tensor, decoding: Decoding, annotated: torch.Tensor | None = None
) -> torch.Tensor:
    """Voxels by label and prediction, (n, n) for ``n`` network values. Ignored voxels don't count, and labels that were
    not ``annotated`` (sample, network value) in a sample count as background there."""
    n = decoding.n_values(logits.shape[1])
    label, predicted = subsampled(label, logits.shape[2:]).int(), decoding.labels(logits, 1).unsqueeze(1).long()
    if annotated is not None:
        predicted = predicted * annotated.gather(1, predicted.flatten(1)).view_as(predicted)
    pairs = torch.where(label == IGNORED, n * n, label * n + predicted.int())
    return torch.bincount(pairs.flatten(), minlength=n * n + 1)[:-1].reshape(n, n)


def _check(losses: torch.Tensor, norms: torch.Tensor, seen: list[tuple[str, ...]], first: int) -> None:
    """Raises ``NotANumber`` for the first step that went wrong: the loss of the next one is none either."""
    wrong = torch.nonzero(~(losses.isfinite() & norms.isfinite())).flatten()
    if len(wrong):
        at = int(wrong[0])
        raise NotANumber("gradient" if losses[at].isfinite() else "loss", first + at, seen[at])


def make_optimizer(network: torch.nn.Module, rate: float, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )
    if config.optimizer == "muon":
        matrices = filter(_is_matrix, network.parameters())
        others = filterfalse(_is_matrix, network.parameters())
        return Muon(matrices, others, lr=rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=config.weight_decay)


def _is_matrix(parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1 and min(parameter.shape[:2]) >= SMALLEST_MATRIX
