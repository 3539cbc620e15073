"""How many voxels of two masks are the same: Dice, intersection over union, sensitivity, precision."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.labels import IGNORED, Labels

LabelMap = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one label or region: in the prediction, in the reference, and in both at once.

    A metric is None where its formula is 0/0.
    """

    prediction: int
    reference: int
    both: int

    @property
    def dice(self) -> float | None:
        """2|P∩R| / (|P|+|R|) (Dice 1945)."""
        return _ratio(2 * self.both, self.prediction + self.reference)

    @property
    def iou(self) -> float | None:
        """|P∩R| / |P∪R| (Jaccard 1912)."""
        return _ratio(self.both, self.prediction + self.reference - self.both)

    @property
    def sensitivity(self) -> float | None:
        """|P∩R| / |R|: the part of the reference that was predicted. Also called recall."""
        return _ratio(self.both, self.reference)

    @property
    def precision(self) -> float | None:
        """|P∩R| / |P|: the part of the prediction that is right. Also called positive predictive value."""
        return _ratio(self.both, self.prediction)


def without_ignored(
    prediction: LabelMap, reference: LabelMap, ignore: int | None = IGNORED
) -> tuple[LabelMap, LabelMap]:
    """Both with background where the reference has the value ``ignore``; as they are where it hasn't."""
    if ignore is None or not (ignored := np.equal(reference, ignore)).any():
        return prediction, reference
    return np.where(ignored, 0, prediction), np.where(ignored, 0, reference)


def unknown_values(prediction: LabelMap, encoded: LabelMap, reference: LabelMap) -> dict[int, int]:
    """Voxels by value of a prediction in file values, where the ``encoded`` one has background instead. Not where the
    reference, in network values, ignores them."""
    unknown = prediction[(prediction != 0) & (encoded == 0) & (reference != IGNORED)]
    values, counts = np.unique(unknown, return_counts=True)
    return {int(value): int(n) for value, n in zip(values, counts, strict=True)}


def what_counts(
    prediction: LabelMap, reference: LabelMap, labels: Labels, annotated: Sequence[str] | None
) -> tuple[LabelMap, LabelMap]:
    """Both, in the values of ``labels``, with background where the reference ignores voxels, and for the labels that
    are not among the ``annotated`` ones (None: all are)."""
    predicted, referred = without_ignored(prediction, reference, labels.ignore)
    return labels.only_annotated(predicted, annotated), labels.only_annotated(referred, annotated)


def mask_of(label_map: LabelMap, values: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Where any of the values is."""
    return label_map == values[0] if len(values) == 1 else np.isin(label_map, values)


def count_overlaps(
    prediction: LabelMap, reference: LabelMap, n_labels: int, unions: Iterable[Sequence[int]] | None = None
) -> list[Overlap]:
    """Counts of the labels ``1 … n_labels``, or of ``unions`` of them, from one pass over two label maps of one shape
    ``(x, y, z)``.

    Raises ``ValueError`` when the shapes differ or a value is below 0 or above ``n_labels``.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"label maps of different shapes: {prediction.shape} and {reference.shape}")
    n_values = n_labels + 1
    counts = np.zeros(n_values**2, dtype=np.int64)
    if reference.flags.f_contiguous:  # slices along the axis that is slowest in memory
        prediction, reference = prediction.T, reference.T
    # Slice by slice, because of the 8 bytes that pairs of values take.
    for predicted, referred in zip(prediction, reference, strict=True):
        highest = max(predicted.max(), referred.max())
        if highest > n_labels:
            raise ValueError(f"label value {highest} is above the highest label, {n_labels}")
        pairs = predicted.astype(np.intp) * n_values + referred
        counts += np.bincount(pairs.ravel(), minlength=n_values**2)
    table = counts.reshape(n_values, n_values)
    return overlaps_in(table, ((label,) for label in range(1, n_values)) if unions is None else unions)


def overlaps_in(table: npt.NDArray[np.integer[Any]], unions: Iterable[Sequence[int]]) -> list[Overlap]:
    """Counts of unions of labels, from the voxels by prediction and reference (n, n)."""
    return [
        Overlap(int(table[union].sum()), int(table[:, union].sum()), int(table[np.ix_(union, union)].sum()))
        for union in map(list, unions)
    ]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
