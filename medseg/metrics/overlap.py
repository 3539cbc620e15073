"""How many voxels of two masks are the same: Dice, intersection over union, sensitivity, precision."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.labels import IGNORED
from medseg.metrics.masks import Mask, MaskLike, as_array, checked

LabelMap = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one label or region. A metric is None where its formula is 0/0.

    Attributes:
        prediction: Voxels in the prediction.
        reference: Voxels in the reference.
        both: Voxels in both at once.

    Example:
        >>> overlap = Overlap(prediction=8, reference=12, both=6)
        >>> overlap.dice, overlap.iou, overlap.sensitivity, overlap.precision
        (0.6, 0.42857142857142855, 0.5, 0.75)
    """

    prediction: int
    reference: int
    both: int

    @property
    def dice(self) -> float | None:
        """The Dice coefficient, 2|P∩R| / (|P|+|R|) (Dice 1945)."""
        return _ratio(2 * self.both, self.prediction + self.reference)

    @property
    def iou(self) -> float | None:
        """The intersection over union, |P∩R| / |P∪R| (Jaccard 1912)."""
        return _ratio(self.both, self.prediction + self.reference - self.both)

    @property
    def sensitivity(self) -> float | None:
        """The part of the reference that was predicted, |P∩R| / |R|. It is also called recall."""
        return _ratio(self.both, self.reference)

    @property
    def precision(self) -> float | None:
        """The part of the prediction that is right, |P∩R| / |P|. It is also called positive predictive value."""
        return _ratio(self.both, self.prediction)


def dice(prediction: MaskLike, reference: MaskLike) -> float | None:
    """Returns the Dice coefficient, 2|P∩R| / (|P|+|R|).

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or of any other shape; an array or a tensor.
        reference: The reference, of the same shape.

    Returns:
        From 0 to 1; 0 when one mask is empty, None when both are.

    Raises:
        ValueError: When the shapes differ, or one is no mask.

    Source: L. R. Dice, Measures of the amount of ecologic association between species, Ecology 1945.

    Examples:
        >>> import numpy as np
        >>> prediction, reference = np.array([[[1, 1, 0, 0]]], bool), np.array([[[0, 1, 1, 0]]], bool)
        >>> dice(prediction, reference)
        0.5
    """
    return overlap_of(prediction, reference).dice


def iou(prediction: MaskLike, reference: MaskLike) -> float | None:
    """Returns the intersection over union, |P∩R| / |P∪R|.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or of any other shape; an array or a tensor.
        reference: The reference, of the same shape.

    Returns:
        From 0 to 1; 0 when one mask is empty, None when both are.

    Raises:
        ValueError: When the shapes differ, or one is no mask.

    Source: P. Jaccard, The distribution of the flora in the alpine zone, New Phytologist 1912.

    Examples:
        >>> import numpy as np
        >>> prediction, reference = np.array([[[1, 1, 1, 1]]], bool), np.array([[[0, 1, 0, 0]]], bool)
        >>> iou(prediction, reference)
        0.25
    """
    return overlap_of(prediction, reference).iou


def sensitivity(prediction: MaskLike, reference: MaskLike) -> float | None:
    """Returns the part of the reference that was predicted, |P∩R| / |R|. It is also called recall.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or of any other shape; an array or a tensor.
        reference: The reference, of the same shape.

    Returns:
        From 0 to 1; 0 when only the prediction is empty, None when the reference is.

    Raises:
        ValueError: When the shapes differ, or one is no mask.

    Examples:
        >>> import numpy as np
        >>> prediction, reference = np.array([[[1, 0, 0, 0]]], bool), np.array([[[1, 1, 0, 0]]], bool)
        >>> sensitivity(prediction, reference)
        0.5
    """
    return overlap_of(prediction, reference).sensitivity


def precision(prediction: MaskLike, reference: MaskLike) -> float | None:
    """Returns the part of the prediction that is right, |P∩R| / |P|. It is also called positive predictive value.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or of any other shape; an array or a tensor.
        reference: The reference, of the same shape.

    Returns:
        From 0 to 1; 0 when only the reference is empty, None when the prediction is.

    Raises:
        ValueError: When the shapes differ, or one is no mask.

    Examples:
        >>> import numpy as np
        >>> prediction, reference = np.array([[[1, 1, 0, 0]]], bool), np.array([[[1, 0, 0, 0]]], bool)
        >>> precision(prediction, reference)
        0.5
    """
    return overlap_of(prediction, reference).precision


def overlap_of(prediction: MaskLike, reference: MaskLike) -> Overlap:
    """Returns the voxel counts of two masks.

    Args:
        prediction: The predicted mask, ``(x, y, z)`` or of any other shape; an array or a tensor.
        reference: The reference, of the same shape.

    Raises:
        ValueError: When the shapes differ, or one is no mask.
    """
    predicted, referred = checked(prediction, reference)
    return Overlap(
        int(np.count_nonzero(predicted)),
        int(np.count_nonzero(referred)),
        int(np.count_nonzero(predicted & referred)),
    )


def without_ignored(
    prediction: LabelMap, reference: LabelMap, ignore: int | None = IGNORED
) -> tuple[LabelMap, LabelMap]:
    """Returns both label maps with background where the reference has the value ``ignore``.

    Args:
        prediction: Label map of any shape.
        reference: Label map of the same shape.
        ignore: The value of voxels that nobody annotated; None: there is none.

    Returns:
        Prediction and reference; the same arrays where no voxel is ignored.
    """
    if ignore is None or not (ignored := np.equal(reference, ignore)).any():
        return prediction, reference
    return np.where(ignored, 0, prediction), np.where(ignored, 0, reference)


def mask_of(label_map: LabelMap, values: Sequence[int]) -> Mask:
    """Returns where a label map has any of the values."""
    return label_map == values[0] if len(values) == 1 else np.isin(label_map, values)


def count_overlaps(
    prediction: LabelMap, reference: LabelMap, n_labels: int, unions: Iterable[Sequence[int]] | None = None
) -> list[Overlap]:
    """Returns the voxel counts of all labels, from one pass over two label maps.

    Args:
        prediction: Label map ``(x, y, z)`` of values 0, 1, …, ``n_labels``; an array or a tensor of whole numbers.
        reference: Label map of the same shape.
        n_labels: How many labels there are beside the background.
        unions: The values of each region to count, in place of the labels ``1 … n_labels``.

    Returns:
        An overlap for each label, or for each of the unions.

    Raises:
        ValueError: When the shapes differ, or a value is below 0 or above ``n_labels``.

    Examples:
        >>> import numpy as np
        >>> from medseg.metrics import count_overlaps
        >>> prediction, reference = np.array([[[0, 1, 2, 2]]]), np.array([[[0, 1, 1, 2]]])
        >>> [overlap.dice for overlap in count_overlaps(prediction, reference, n_labels=2)]
        [0.6666666666666666, 0.6666666666666666]
    """
    prediction, reference = as_array(prediction), as_array(reference)
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
    """Returns the voxel counts of unions of labels.

    Args:
        table: Numbers of voxels by value in the prediction and value in the reference, ``(n, n)``.
        unions: The values of each union.
    """
    return [
        Overlap(int(table[union].sum()), int(table[:, union].sum()), int(table[np.ix_(union, union)].sum()))
        for union in map(list, unions)
    ]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
