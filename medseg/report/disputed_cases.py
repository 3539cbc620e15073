"""The cases in which several methods differ most: their values, and pictures of what each says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from medseg.errors import MedsegError
from medseg.evaluation.comparison_json import MethodComparison
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.images import image_of
from medseg.evaluation.pairs import CasePair
from medseg.evaluation.predictions_json import sources_beside
from medseg.evaluation.reading import image_on, read_pair, what_counts
from medseg.evaluation.summary import Floats
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.report.slices import ErrorSlice, disagreement_slices
from medseg.structures import Colour
from medseg.volume import Array

# Told apart by the colour-blind, on dark images and on paper (Okabe and Ito 2008).
COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178), (240, 228, 66)
)  # fmt: skip

Methods = Mapping[str, Sequence[Evaluation]]  # an evaluation for each seed


@dataclass(frozen=True)
class DisputedCase:
    """A case in which methods differ.

    Attributes:
        case_id: Its name.
        spread: The largest score less the smallest.
        scores: By method; None where there is none.
        values: Of each label, by method.
        slices: Pictures.
        note: Why there is no picture.
        files: The masks by method, the reference, and the image where it was found.
    """

    case_id: str
    spread: float
    scores: Mapping[str, float | None]
    values: Mapping[str, Mapping[str, float | None]]
    slices: tuple[ErrorSlice, ...]
    note: str
    files: Mapping[str, Path]


def most_disputed_first(scores: Mapping[str, Floats], cases: Sequence[str]) -> dict[str, float]:
    """Returns how far the methods lie apart, by case, the farthest first; cases in which they agree are left out.

    Args:
        scores: Of each method the value of each case.
        cases: The case ids, in the same order.

    Returns:
        The largest value less the smallest; infinite where only some methods have a value.
    """
    if not scores:
        return {}
    stacked = np.stack(list(scores.values()))
    with np.errstate(invalid="ignore"):
        spreads = stacked.max(axis=0) - stacked.min(axis=0)
    differ = {case: float(spread) for case, spread in zip(cases, spreads, strict=True) if spread > 0}
    return dict(sorted(differ.items(), key=lambda item: -item[1]))


def values_of_methods(scores: Mapping[str, Floats], comparison: MethodComparison, case: str) -> dict[str, float | None]:
    """Returns the value of each method in one case; None where it has none.

    Args:
        scores: Of each method the value of each case.
        comparison: That has the order of the cases.
        case: Its name.
    """
    at = comparison.cases.index(case)
    return {name: float(of[at]) if np.isfinite(of[at]) else None for name, of in scores.items()}


def disputed_case(
    case: str,
    scores: Mapping[str, Floats],
    disputed: Mapping[str, float],
    comparison: MethodComparison,
    methods: Methods,
    metric: str,
) -> DisputedCase:
    """Returns a case in which methods differ, with its pictures; it is read once more.

    Args:
        case: Its name.
        scores: Of each method the value of each case.
        disputed: How far the methods lie apart, by case.
        comparison: That has the order of the cases.
        methods: The evaluations of each method, one for each seed; the first is pictured.
        metric: Whose values are listed by label.
    """
    firsts = {name: evaluations[0] for name, evaluations in methods.items()}
    values = {
        name: {record.label: record.values.get(metric) for record in each.records if record.case_id == case}
        for name, each in firsts.items()
    }
    pairs = {name: _pair(each, case) for name, each in firsts.items()}
    source = _image_of(case, firsts)
    slices, note = _pictures(case, source, firsts)
    files = {name: pair.prediction.path for name, pair in pairs.items() if pair.prediction}
    files["reference"] = next(iter(pairs.values())).reference.path
    if source is not None:
        files["image"] = source.path
    return DisputedCase(case, disputed[case], values_of_methods(scores, comparison, case), values, slices, note, files)


def _pair(evaluation: Evaluation, case: str) -> CasePair:
    return next(pair for pair in evaluation.masks.pairs if pair.case_id == case)


def _image_of(case: str, firsts: Mapping[str, Evaluation]) -> ImageSource | None:
    """Returns the first image that is known to any method."""
    found = (image_of(_pair(each, case), sources_beside(each.masks.predictions)) for each in firsts.values())
    return next((source for source in found if source is not None), None)


def _pictures(
    case: str, source: ImageSource | None, firsts: Mapping[str, Evaluation]
) -> tuple[tuple[ErrorSlice, ...], str]:
    """Returns pictures of the first seed of each method, and what is wrong with the image."""
    labels = next(iter(firsts.values())).masks.labels
    predictions: dict[str, Array] = {}
    try:
        for name, each in firsts.items():
            pair, own = _pair(each, case), each.masks.labels
            prediction, reference = read_pair(pair, each.masks.grid_tolerance)
            masks = prediction.label_map, reference.label_map
            predicted, drawn = what_counts(*masks, own, pair.reference.annotated)
            predictions[name] = _in_values_of(labels, predicted, own)
            if name == next(iter(firsts)):
                referred = _in_values_of(labels, drawn, own)
                grid = reference.geometry
                image, note = image_on(reference, source)
        if any(each.shape != referred.shape for each in predictions.values()):
            return (), "The predictions lie on different grids, and cannot be shown in one picture."
        colours = list(islice(cycle(COLOURS), len(predictions)))
        return disagreement_slices(image, predictions, referred, grid, labels, colours), note
    except MedsegError as error:  # a report with one picture less is still a report
        return (), str(error)


def _in_values_of(labels: Labels, label_map: Array, own: Labels) -> Array:
    """Returns a label map in the values of other labels: methods may give a label other values."""
    if own == labels:
        return label_map
    value_of = dict(zip(own.names, own.values, strict=True))
    result = np.zeros(label_map.shape, np.int32)
    for label in labels.items:
        if label.name in value_of:
            result[label_map == value_of[label.name]] = label.value
    return result
