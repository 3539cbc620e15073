"""What an epoch of training gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from medseg.decoding import Decoding
from medseg.labels import IGNORED
from medseg.losses import subsampled
from medseg.training.validation import ValidationResult
from medseg.training.watchdog import dice_of_patches


@dataclass
class Epoch:
    """What a number of steps gave.

    Attributes:
        step: Steps done, over the whole training.
        loss: The mean over the steps.
        gradient_norm: The mean over the steps, before clipping.
        learning_rate: That of the last step.
        samples_per_second: Of all processes together.
        confusion: ``(label, prediction)``: voxels of some of the patches, both network values. None: not counted.
        peak_memory_mb: Of the GPU, or of the process.
        validation: Where one was due after these steps.

    Example:
        >>> epoch = Epoch(50, loss=0.4, gradient_norm=1.2, learning_rate=0.01, samples_per_second=9.0, confusion=None)
        >>> epoch.numbers({})["train_loss"]
        0.4
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    samples_per_second: float
    confusion: torch.Tensor | None
    peak_memory_mb: float = 0.0
    validation: ValidationResult | None = None

    def numbers(self, unions: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Returns all that can be drawn over the steps, by the names that log.csv gives them.

        Args:
            unions: The labels and regions (``Labels.unions``), whose Dice on training patches is among the numbers.
        """
        numbers: dict[str, float | None] = {
            "learning_rate": self.learning_rate,
            "train_loss": self.loss,
            "grad_norm": self.gradient_norm,
            "samples_per_second": self.samples_per_second,
            "peak_memory_mb": self.peak_memory_mb,
        }
        if self.confusion is not None:
            dice = dice_of_patches(self.confusion.tolist(), unions)
            numbers |= {f"train_dice_{name}": value for name, value in dice.items()}
        if self.validation is not None:
            numbers["val_dice"] = self.validation.mean_dice
            numbers |= {f"val_dice_{name}": value for name, value in self.validation.dice.items()}
            metric, measured = self.validation.metric, self.validation.measured
            numbers |= {f"val_{metric}_{name}": value for name, value in measured.items()}
            if measured:
                numbers[f"val_{metric}"] = self.validation.score
        return {name: value for name, value in numbers.items() if value is not None}


def confusion(
    logits: torch.Tensor, label: torch.Tensor, decoding: Decoding, annotated: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns voxels by label and prediction, ``(n, n)`` for ``n`` network values.

    Ignored voxels don't count, and labels that were not annotated in a sample count as background there.

    Args:
        logits: ``(sample, output, *spatial)``.
        label: ``(sample, 1, *spatial)``, network values.
        decoding: What the logits stand for.
        annotated: ``(sample, network value)``: which labels were drawn in each sample. None: all.
    """
    n = decoding.n_values(logits.shape[1])
    label, predicted = subsampled(label, logits.shape[2:]).int(), decoding.labels(logits, 1).unsqueeze(1).long()
    if annotated is not None:
        predicted = predicted * annotated.gather(1, predicted.flatten(1)).view_as(predicted)
    pairs = torch.where(label == IGNORED, n * n, label * n + predicted.int())
    return torch.bincount(pairs.flatten(), minlength=n * n + 1)[:-1].reshape(n, n)
