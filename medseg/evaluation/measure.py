"""What a worker does with a pair of prediction and reference: reads it and measures it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from medseg.errors import LabelError
from medseg.evaluation.case import LabelMetrics, Measures, measure_case
from medseg.evaluation.pairs import Pair
from medseg.evaluation.reading import read_pair
from medseg.labels import IGNORED, Labels
from medseg.volume import Array, Volume


class Measured(NamedTuple):
    """Of one case. ``unknown``: voxels of the prediction by their values, of those that are no label's."""

    records: list[LabelMetrics]
    unknown: dict[int, int]


def measure_pair(pair: Pair, *, labels: Labels, measures: Measures, grid_tolerance: float) -> Measured:
    """Reads and measures one pair. Runs in a worker.

    Raises ``GeometryError`` when the grids differ, ``LabelError`` for values of the reference that are no label's.
    """
    prediction, reference = read_pair(pair, grid_tolerance)
    referred = _encoded(reference, pair.reference.path, labels)
    predicted = labels.model_copy(update={"ignore": None}).encode(prediction.label_map, strict=False)
    records = measure_case(
        pair.case_id, predicted, referred, reference.geometry.spacing, labels, measures, pair.reference.annotated
    )
    return Measured(records, unknown_values(prediction.label_map, predicted, referred))


def values_of(pair: Pair, *, grid_tolerance: float) -> tuple[set[int], set[int]]:
    """The label values in the prediction, and in the reference. Runs in a worker."""
    prediction, reference = (
        {int(value) for value in np.unique(volume.array)} - {0} for volume in read_pair(pair, grid_tolerance)
    )
    return prediction, reference


def _encoded(volume: Volume, path: Path, labels: Labels) -> Array:
    """The label map in network values, errors with the path."""
    try:
        return labels.encode(volume.label_map)
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error


def unknown_values(prediction: Array, encoded: Array, reference: Array) -> dict[int, int]:
    """Voxels by value of a prediction in file values, where the ``encoded`` one has background instead. Not where the
    reference, in network values, ignores them."""
    unknown = prediction[(prediction != 0) & (encoded == 0) & (reference != IGNORED)]
    values, counts = np.unique(unknown, return_counts=True)
    return {int(value): int(n) for value, n in zip(values, counts, strict=True)}
