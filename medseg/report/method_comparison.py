"""report.html of several predictions: which is better, how sure that is, and in which cases they differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, cycle, islice
from pathlib import Path

import numpy as np

from medseg.errors import Problem
from medseg.evaluation.comparison_json import Contest, Difference, MethodComparison, Standing
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.method_comparison import DEFINITIONS, Run, case_scores
from medseg.evaluation.summary import Floats, table
from medseg.metrics.definitions import definitions
from medseg.report.disputed_cases import COLOURS, Methods, disputed_case, most_disputed_first, values_of_methods
from medseg.report.distributions import Distribution, side_by_side
from medseg.report.evaluation import titled
from medseg.report.links import link, seen_from
from medseg.report.page import write_page
from medseg.report.provenance import Fact, model_facts, software
from medseg.structures import Colour

TEMPLATE = "report/method_comparison.html.j2"

CASES_PICTURED = 3
CASES_LISTED = 200

NEUTRAL: Colour = (110, 122, 134)


@dataclass(frozen=True)
class Ranking:
    """The methods by one metric, over the labels or of one of them.

    Attributes:
        of: The label, ``over the labels``, or empty where there is one label.
        standings: By method, the best first.
        differences: Between each two methods.
        cases: How many are compared.
        order_kept: The part of the resamples in which all methods keep their order.
    """

    of: str
    standings: tuple[tuple[str, Standing], ...]
    differences: tuple[Difference, ...]
    cases: int
    order_kept: float

    @classmethod
    def of_contest(cls, of: str, contest: Contest) -> "Ranking":
        """Returns the ranking of a contest.

        Args:
            of: The label, ``over the labels``, or empty where there is one label.
            contest: Its result.
        """
        standings = sorted(contest.standings.items(), key=lambda item: item[1].place)
        return cls(of, tuple(standings), tuple(contest.differences), contest.cases, contest.order_kept)


@dataclass(frozen=True)
class MetricSection:
    """All about one metric.

    Attributes:
        metric: Its name.
        ranking: Over the labels.
        of_labels: Of each label.
        distributions: Of each label.
        paired: Differences of each two methods; None where they share no case.
    """

    metric: str
    ranking: Ranking
    of_labels: tuple[Ranking, ...]
    distributions: tuple[Distribution, ...]
    paired: Distribution | None


def write_comparison(comparison: MethodComparison, methods: Methods, path: Path) -> Path:
    """Writes report.html of several predictions. The cases that are pictured are read once more.

    Args:
        comparison: Which method is better.
        methods: The evaluations of each method, one for each seed.
        path: The file to write.

    Returns:
        The path.

    Raises:
        OutputError: When the file cannot be written.
    """
    colours = dict(zip(methods, cycle(COLOURS), strict=False))
    label_colours = {label.name: label.colour for each in _each(methods) for label in each.masks.labels.structures}
    sections = [_section(metric, comparison, methods, colours) for metric in comparison.metrics]
    decisive = next(iter(comparison.metrics), None)
    scores = {} if decisive is None else case_scores(_runs(methods), decisive, comparison.cases)
    disputed = most_disputed_first(scores, comparison.cases)
    first = next(_each(methods))
    problems = list(_problems(methods))
    measured = {record.case_id for each in _each(methods) for record in each.records}
    return write_page(
        path,
        TEMPLATE,
        f"Comparison of {', '.join(methods)}",
        references=first.masks.references.resolve().name,
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
        cases=[
            disputed_case(case, scores, disputed, comparison, methods, decisive or "")
            for case in islice(disputed, CASES_PICTURED)
        ],
        listed=[
            (case, spread, values_of_methods(scores, comparison, case))
            for case, spread in islice(disputed.items(), CASES_LISTED)
        ],
        reports=[run for run, _ in _by_run(methods)],
        provenance=list(_facts(methods, path.parent)),
        titled=titled,
        link=partial(link, path.parent),
    )


def _each(methods: Methods) -> Iterator[Evaluation]:
    return (evaluation for _, evaluation in _by_run(methods))


def _by_run(methods: Methods) -> Iterator[tuple[str, Evaluation]]:
    """Yields evaluations with their names, METHOD or METHOD/SEED, which are also the folders of their own reports."""
    for name, evaluations in methods.items():
        for each in evaluations:
            yield (name if len(evaluations) == 1 else f"{name}/{each.masks.predictions.name}"), each


def _runs(methods: Methods) -> dict[str, list[Run]]:
    return {name: [each.records for each in evaluations] for name, evaluations in methods.items()}


def _figures(
    comparison: MethodComparison, methods: Methods, n_labels: int, n_problems: int
) -> Iterator[tuple[str, str]]:
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
    yield "references", seen_from(folder, next(_each(methods)).masks.references)
    for run, evaluation in _by_run(methods):
        yield run, seen_from(folder, evaluation.masks.predictions)
        for name, value in model_facts(evaluation.masks.predictions, folder):
            yield f"{run}: {name}", value
    yield software()


def _section(
    metric: str, comparison: MethodComparison, methods: Methods, colours: Mapping[str, Colour]
) -> MetricSection:
    contests = comparison.metrics[metric]
    return MetricSection(
        metric,
        Ranking.of_contest("over the labels" if contests.labels else "", contests.over_labels),
        tuple(Ranking.of_contest(label, contest) for label, contest in contests.labels.items()),
        tuple(_distributions(metric, comparison, methods, colours)),
        _paired(case_scores(_runs(methods), metric, comparison.cases), comparison.cases),
    )


def _distributions(
    metric: str, comparison: MethodComparison, methods: Methods, colours: Mapping[str, Colour]
) -> Iterator[Distribution]:
    """Yields a drawing for each label; of a method with several seeds, the mean of these is shown."""
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
    """Returns a drawing of differences case by case; None where no two methods have a value in one case."""
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
