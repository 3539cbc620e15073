"""report.html of several predictions: which is better, how sure that is, and in which cases they differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, cycle, islice
from pathlib import Path

import numpy as np

from medseg.errors import MedsegError, Problem
from medseg.evaluation.comparison import DEFINITIONS, Comparison, Contest, Difference, Run, Standing, case_scores
from medseg.evaluation.images import image_of, sources_beside
from medseg.evaluation.pairs import Pair
from medseg.evaluation.reading import read_pair, what_counts
from medseg.evaluation.summary import Floats, table
from medseg.io.source import ImageSource
from medseg.labels import Colour, Labels
from medseg.metrics.definitions import definitions
from medseg.report.distributions import Distribution, side_by_side
from medseg.report.evaluation import Evaluated, image_on, titled
from medseg.report.links import link, seen_from
from medseg.report.page import write_page
from medseg.report.provenance import Fact, model_facts, software
from medseg.report.slices import ErrorSlice, disagreement_slices
from medseg.volume import Array

TEMPLATE = "report/comparison.html.j2"

CASES_PICTURED = 3
CASES_LISTED = 200

# Told apart by the colour-blind, on dark images and on paper (Okabe and Ito 2008).
COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178), (240, 228, 66)
)  # fmt: skip
NEUTRAL: Colour = (110, 122, 134)

Methods = Mapping[str, Sequence[Evaluated]]  # an evaluation for each seed


@dataclass(frozen=True)
class Ranking:
    """Of one metric, over the labels or of one of them; the best method first."""

    of: str
    standings: tuple[tuple[str, Standing], ...]
    differences: tuple[Difference, ...]
    cases: int
    order_kept: float

    @classmethod
    def of_contest(cls, of: str, contest: Contest) -> "Ranking":
        standings = sorted(contest.standings.items(), key=lambda item: item[1].place)
        return cls(of, tuple(standings), tuple(contest.differences), contest.cases, contest.order_kept)


@dataclass(frozen=True)
class Section:
    """All about one metric."""

    metric: str
    ranking: Ranking
    of_labels: tuple[Ranking, ...]
    distributions: tuple[Distribution, ...]  # of a label each
    paired: Distribution | None  # differences of each two methods


@dataclass(frozen=True)
class DisputedCase:
    """``scores`` by method, ``spread`` the largest less the smallest; ``values`` of each label by method."""

    case_id: str
    spread: float
    scores: Mapping[str, float | None]
    values: Mapping[str, Mapping[str, float | None]]
    slices: tuple[ErrorSlice, ...]
    note: str
    files: Mapping[str, Path]


def write_comparison(comparison: Comparison, methods: Methods, path: Path) -> Path:
    """Reads the cases that are pictured once more. Raises ``OutputError`` when the file cannot be written."""
    colours = dict(zip(methods, cycle(COLOURS), strict=False))
    label_colours = {label.name: label.colour for each in _each(methods) for label in each.compared.labels.structures}
    sections = [_section(metric, comparison, methods, colours) for metric in comparison.metrics]
    decisive = next(iter(comparison.metrics), None)
    scores = {} if decisive is None else case_scores(_runs(methods), decisive, comparison.cases)
    disputed = _most_disputed_first(scores, comparison.cases)
    first = next(_each(methods))
    problems = list(_problems(methods))
    measured = {record.case_id for each in _each(methods) for record in each.records}
    return write_page(
        path,
        TEMPLATE,
        f"Comparison of {', '.join(methods)}",
        references=first.compared.references.resolve().name,
        figures=list(_figures(comparison, methods, len(label_colours), len(problems))),
        seeds=comparison.seeds,
        has_noise=any(n > 1 for n in comparison.seeds.values()),
        problems=problems,
        left_out=sorted(measured - set(comparison.cases)),
        sections=sections,
        definitions=definitions(comparison.metrics) | DEFINITIONS,
        decisive=decisive,
        colours=colours,
        label_colours=label_colours,
        cases=[_disputed(case, scores, disputed, comparison, methods, decisive or "") for case in _pictured(disputed)],
        listed=[(case, spread, _of_case(scores, comparison, case)) for case, spread in _listed(disputed)],
        reports=[run for run, _ in _by_run(methods)],
        provenance=list(_facts(methods, path.parent)),
        titled=titled,
        link=partial(link, path.parent),
    )


def _each(methods: Methods) -> Iterator[Evaluated]:
    return (evaluation for _, evaluation in _by_run(methods))


def _by_run(methods: Methods) -> Iterator[tuple[str, Evaluated]]:
    """By METHOD, or METHOD/SEED: also the folder of its own report."""
    for name, evaluations in methods.items():
        for each in evaluations:
            yield (name if len(evaluations) == 1 else f"{name}/{each.compared.predictions.name}"), each


def _runs(methods: Methods) -> dict[str, list[Run]]:
    return {name: [each.records for each in evaluations] for name, evaluations in methods.items()}


def _figures(comparison: Comparison, methods: Methods, n_labels: int, n_problems: int) -> Iterator[tuple[str, str]]:
    yield str(len(methods)), "predictions" if max(comparison.seeds.values()) == 1 else "methods"
    yield str(len(comparison.cases)), "case in all of them" if len(comparison.cases) == 1 else "cases in all of them"
    yield str(n_labels), "label" if n_labels == 1 else "labels"
    for metric, contests in islice(comparison.metrics.items(), 1):
        name, best = min(contests.over_labels.standings.items(), key=lambda item: item[1].place)
        yield name, f"first by {titled(metric)}, in {best.kept:.0%} of the resamples"
    if n_problems:
        yield str(n_problems), "not evaluated"


def _problems(methods: Methods) -> Iterator[tuple[str, Problem]]:
    for run, evaluation in _by_run(methods):
        for problem in evaluation.problems:
            yield run, problem


def _facts(methods: Methods, folder: Path) -> Iterator[Fact]:
    yield "references", seen_from(folder, next(_each(methods)).compared.references)
    for run, evaluation in _by_run(methods):
        yield run, seen_from(folder, evaluation.compared.predictions)
        for name, value in model_facts(evaluation.compared.predictions, folder):
            yield f"{run}: {name}", value
    yield software()


def _section(metric: str, comparison: Comparison, methods: Methods, colours: Mapping[str, Colour]) -> Section:
    contests = comparison.metrics[metric]
    return Section(
        metric,
        Ranking.of_contest("over the labels" if contests.labels else "", contests.over_labels),
        tuple(Ranking.of_contest(label, contest) for label, contest in contests.labels.items()),
        tuple(_distributions(metric, comparison, methods, colours)),
        _paired(case_scores(_runs(methods), metric, comparison.cases), comparison.cases),
    )


def _distributions(
    metric: str, comparison: Comparison, methods: Methods, colours: Mapping[str, Colour]
) -> Iterator[Distribution]:
    """One for each label; of a method with several seeds, the mean of these."""
    labels = list(dict.fromkeys(record.label for each in _each(methods) for record in each.records))
    values = {
        name: [table(each.records, metric, comparison.cases, labels) for each in evaluations]
        for name, evaluations in methods.items()
    }
    for i, label in enumerate(labels):
        of_methods = {
            name: _finite(comparison.cases, np.stack(of_seeds)[:, :, i].mean(axis=0))
            for name, of_seeds in values.items()
        }
        if any(of_methods.values()):
            yield side_by_side(label, of_methods, colours)


def _paired(scores: Mapping[str, Floats], cases: Sequence[str]) -> Distribution | None:
    """Differences case by case. None where no two methods have a value in one case."""
    differences = {}
    for first, second in combinations(scores, 2):
        with np.errstate(invalid="ignore"):
            differences[f"{first} − {second}"] = _finite(cases, scores[first] - scores[second])
    if not any(differences.values()):
        return None
    drawing = side_by_side("", differences, dict.fromkeys(differences, NEUTRAL))
    inside = drawing.scale.low < 0 < drawing.scale.high
    return Distribution(
        drawing.metric, drawing.scale, drawing.rows, drawing.height, zero=drawing.scale(0.0) if inside else None
    )


def _finite(cases: Sequence[str], values: Floats) -> list[tuple[str, float]]:
    return [(case, float(value)) for case, value in zip(cases, values, strict=True) if np.isfinite(value)]


def _most_disputed_first(scores: Mapping[str, Floats], cases: Sequence[str]) -> dict[str, float]:
    """How far the methods lie apart in each case; infinite where only some have a value. Cases in which they agree are
    left out."""
    if not scores:
        return {}
    stacked = np.stack(list(scores.values()))
    with np.errstate(invalid="ignore"):
        spreads = stacked.max(axis=0) - stacked.min(axis=0)
    differ = {case: float(spread) for case, spread in zip(cases, spreads, strict=True) if spread > 0}
    return dict(sorted(differ.items(), key=lambda item: -item[1]))


def _pictured(disputed: Mapping[str, float]) -> Iterator[str]:
    return islice(disputed, CASES_PICTURED)


def _listed(disputed: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    return islice(disputed.items(), CASES_LISTED)


def _of_case(scores: Mapping[str, Floats], comparison: Comparison, case: str) -> dict[str, float | None]:
    at = comparison.cases.index(case)
    return {name: float(of[at]) if np.isfinite(of[at]) else None for name, of in scores.items()}


def _disputed(
    case: str,
    scores: Mapping[str, Floats],
    disputed: Mapping[str, float],
    comparison: Comparison,
    methods: Methods,
    metric: str,
) -> DisputedCase:
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
    return DisputedCase(case, disputed[case], _of_case(scores, comparison, case), values, slices, note, files)


def _pair(evaluation: Evaluated, case: str) -> Pair:
    return next(pair for pair in evaluation.compared.pairs if pair.case_id == case)


def _image_of(case: str, firsts: Mapping[str, Evaluated]) -> ImageSource | None:
    """The first that is known to any method."""
    found = (image_of(_pair(each, case), sources_beside(each.compared.predictions)) for each in firsts.values())
    return next((source for source in found if source is not None), None)


def _pictures(
    case: str, source: ImageSource | None, firsts: Mapping[str, Evaluated]
) -> tuple[tuple[ErrorSlice, ...], str]:
    """Of the first seed of each method, and what is wrong with the image."""
    labels = next(iter(firsts.values())).compared.labels
    predictions: dict[str, Array] = {}
    try:
        for name, each in firsts.items():
            pair, own = _pair(each, case), each.compared.labels
            prediction, reference = read_pair(pair, each.compared.grid_tolerance)
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
    """Methods may give a label other values."""
    if own == labels:
        return label_map
    value_of = dict(zip(own.names, own.values, strict=True))
    result = np.zeros(label_map.shape, np.int32)
    for label in labels.items:
        if label.name in value_of:
            result[label_map == value_of[label.name]] = label.value
    return result
