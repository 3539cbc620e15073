"""How much of two masks is the same: Dice and intersection over union."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LabelMap = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one label: in the prediction, in the reference, and in both at once."""

    prediction: int
    reference: int
    both: int

    @property
    def dice(self) -> float | None:
        """2|P∩R| / (|P|+|R|) (Dice 1945); None when both masks are empty."""
        total = self.prediction + self.reference
        return 2 * self.both / total if total else None

    @property
    def iou(self) -> float | None:
        """|P∩R| / |P∪R| (Jaccard 1912); None when both masks are empty."""
        union = self.prediction + self.reference - self.both
        return self.both / union if union else None


def count_overlaps(prediction: LabelMap, reference: LabelMap, n_labels: int) -> list[Overlap]:
    """Counts of the labels ``1 … n_labels``, from one pass over two label maps of one shape ``(x, y, z)``.

    Raises ``ValueError`` when the shapes differ or a value is below 0 or above ``n_labels``.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"label maps of different shapes: {prediction.shape} and {reference.shape}")
    counts = np.zeros((3, n_labels + 1), dtype=np.int64)
    if reference.flags.f_contiguous:  # slices along the axis that is slowest in memory
        prediction, reference = prediction.T, reference.T
    # Slice by slice, because bincount makes 8 bytes of every voxel.
    for predicted, referred in zip(prediction, reference, strict=True):
        same = predicted[predicted == referred]
        for row, values in enumerate((predicted, referred, same)):
            found = np.bincount(values.ravel(), minlength=n_labels + 1)
            if len(found) > n_labels + 1:
                raise ValueError(f"label value {len(found) - 1} is above the highest label, {n_labels}")
            counts[row] += found
    return [Overlap(*(int(n) for n in counts[:, label])) for label in range(1, n_labels + 1)]
