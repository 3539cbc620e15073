"""Measures pairs of predictions and references: what a worker does with one, and what becomes of all."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from medseg.errors import LabelError, Problem
from medseg.evaluation.case import Failed, LabelMetrics, Measures, measure_case
from medseg.evaluation.objects import ComparedObject, compare_objects
from medseg.evaluation.pairs import CasePair
from medseg.evaluation.reading import read_objects, read_pair
from medseg.labels import IGNORED, Labels
from medseg.metrics.definitions import METRICS
from medseg.parallel import Workers, run_in_workers
from medseg.volume import Array, Volume

Result = TypeVar("Result")


class MeasuredCase(NamedTuple):
    """What was measured of one case.

    Attributes:
        records: The metrics of each label.
        unknown: Voxels of the prediction by their values, of those that are no label's.
        objects: Those that are told apart, one by one.
    """

    records: list[LabelMetrics]
    unknown: dict[int, int]
    objects: tuple[ComparedObject, ...] = ()


def measure_pair(pair: CasePair, *, labels: Labels, measures: Measures, grid_tolerance: float) -> MeasuredCase:
    """Reads and measures one pair. Runs in a worker.

    Args:
        pair: What to measure.
        labels: Names and values of the labels.
        measures: What to measure of them.
        grid_tolerance: How far apart grids may be that count as one, as part of the smallest voxel edge.

    Raises:
        GeometryError: When the grids differ.
        LabelError: For values of the reference that are no label's.
    """
    prediction, reference = read_pair(pair, grid_tolerance)
    referred = _encoded(reference, pair.reference.path, labels)
    predicted = labels.model_copy(update={"ignore": None}).encode(prediction.label_map, strict=False)
    unknown = unknown_values(prediction.label_map, predicted, referred)
    objects, compared = None, list[ComparedObject]()
    if labels.instances and any(METRICS[name].group == "objects" for name in measures.metrics):
        masks = ((pair.prediction, prediction), (pair.reference, reference))
        found = [read_objects(mask, read, pair, labels, grid_tolerance) for mask, read in masks]
        predicted, referred = (labels.encode(each.label_map) for each in found)
        one, other = (each.objects for each in found)
        if one is not None and other is not None:
            objects, compared = (one.array, other.array), compare_objects(pair.case_id, one, other, labels)
    records = measure_case(
        pair.case_id,
        predicted,
        referred,
        reference.geometry.spacing,
        labels,
        measures._replace(annotated=pair.reference.annotated, objects=objects),
    )
    return MeasuredCase(records, unknown, tuple(compared))


def values_of(pair: CasePair, *, grid_tolerance: float) -> tuple[set[int], set[int]]:
    """Returns the label values in the prediction, and in the reference. It runs in a worker."""
    prediction, reference = (
        {int(value) for value in np.unique(volume.array)} - {0} for volume in read_pair(pair, grid_tolerance)
    )
    return prediction, reference


def _encoded(volume: Volume, path: Path, labels: Labels) -> Array:
    """Returns the label map in network values; errors have the path."""
    try:
        return labels.encode(volume.label_map)
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error


def unknown_values(prediction: Array, encoded: Array, reference: Array) -> dict[int, int]:
    """Returns the voxels by value of a prediction where the ``encoded`` one has background instead.

    Those that the reference ignores don't count.

    Args:
        prediction: In file values.
        encoded: The same in network values.
        reference: In network values.
    """
    unknown = prediction[(prediction != 0) & (encoded == 0) & (reference != IGNORED)]
    values, counts = np.unique(unknown, return_counts=True)
    return {int(value): int(n) for value, n in zip(values, counts, strict=True)}


def measure_pairs(
    measure: Callable[[CasePair], MeasuredCase],
    pairs: Sequence[CasePair],
    failed: Failed,
    workers: Workers,
    problems: list[Problem],
) -> tuple[tuple[CasePair, ...], dict[str, MeasuredCase]]:
    """Returns what was measured, by case, and the pairs of these cases.

    Whatever ended the measurement of a pair, even the death of a worker: the prediction is at fault where the reference
    can be measured against an empty one.

    Args:
        measure: ``measure_pair`` with all but the pair.
        pairs: What to measure.
        failed: What a case counts as whose prediction cannot be used.
        workers: Who does it.
        problems: What went wrong is added to it.
    """
    broken: list[Problem] = []
    measured = in_workers(measure, [pair for pair in pairs if pair.prediction], "Evaluating", workers, broken)
    reasons = {problem.case_id: problem.message for problem in broken}
    defects = {problem.case_id for problem in broken if problem.is_defect}
    empty = [
        replace(pair, prediction=None, failure=reasons.get(pair.case_id, pair.failure))
        for pair in pairs
        if pair.case_id not in measured
    ]
    usable = in_workers(measure, empty, "Evaluating what has no prediction", workers, problems) if empty else {}
    path_of = {pair.case_id: pair.prediction.path if pair.prediction else pair.reference.path for pair in pairs}
    what = "counts as missed" if failed == "missed" else "left out"
    at_fault = [pair for pair in empty if pair.case_id in usable]
    problems += [
        Problem(pair.case_id, path_of[pair.case_id], f"{pair.failure}; {what}", pair.case_id in defects)
        for pair in at_fault
    ]
    if failed == "missed":
        measured |= usable
    known = {pair.case_id: pair for pair in (*pairs, *empty)}
    return tuple(known[pair.case_id] for pair in pairs if pair.case_id in measured), measured


def labels_of_values(pairs: Sequence[CasePair], grid_tolerance: float, workers: Workers, ignore: int | None) -> Labels:
    """Returns a label for each value that occurs in a reference; only where there is none, those of the predictions.

    What cannot be read is told of when it is measured.

    Args:
        pairs: Predictions and references to look into.
        grid_tolerance: How far apart grids may be that count as one, as part of the smallest voxel edge.
        workers: Who does it.
        ignore: The value of voxels that nobody annotated.
    """
    look = partial(values_of, grid_tolerance=grid_tolerance)
    values = in_workers(look, [pair for pair in pairs if pair.prediction], "Looking for labels", workers, [])
    others = [replace(pair, prediction=None) for pair in pairs if pair.case_id not in values]
    values |= in_workers(look, others, "Looking for labels", workers, []) if others else {}
    predicted, referred = (set().union(*sides) for sides in zip(*values.values(), strict=True)) if values else ((), ())
    drawn = set(referred or predicted) - {ignore}
    return Labels.from_names({f"label_{value}": value for value in sorted(drawn)}, ignore=ignore)


def in_workers(
    function: Callable[[CasePair], Result],
    pairs: Sequence[CasePair],
    description: str,
    workers: Workers,
    problems: list[Problem],
) -> dict[str, Result]:
    """Returns results by case id.

    Args:
        function: Runs in a worker.
        pairs: What it is called with.
        description: Of the progress.
        workers: Who does it.
        problems: What went wrong is added to these.
    """
    results = {}
    for outcome in run_in_workers(function, pairs, workers=workers, description=description):
        pair = outcome.item
        if outcome.result is None:
            problems.append(outcome.problem(pair.case_id, (pair.prediction or pair.reference).path))
        else:
            results[pair.case_id] = outcome.result
    return results
