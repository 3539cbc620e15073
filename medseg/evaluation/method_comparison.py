"""Which of several methods is better on the same cases, and how far that can be believed."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.comparison_json import Contest, Contests, Difference, MethodComparison, Standing
from medseg.evaluation.summary import Floats, interval, means, resamples, table
from medseg.metrics.definitions import METRICS

Run = Sequence[LabelMetrics]  # one training, all cases

DEFINITIONS = {
    "cases": "those that were measured in all runs, and whose reference has the label; false alarms in other cases are "
    "counted in each method's own summary",
    "values": "of a case: the mean over its labels, and over the seeds of a method; where a label is missed and a "
    "metric has no value, the case is worse than any that has one",
    "place": "methods are ranked case by case, and placed by their mean rank",
    "places, kept, order_kept": "95 % interval of the place, and the part of 2,000 bootstrap resamples of the cases "
    "(seed 0) in which a method keeps its place, or all do (Wiesenfarth et al. 2021)",
    "p": "Wilcoxon's signed-rank test over the cases, two-sided, equal cases left out (Wilcoxon 1945)",
    "p_holm": "p corrected for the number of pairs of methods; of single labels for pairs × labels (Holm 1979)",
    "noise": "what the means of two methods differ by from the seeds alone, in 95 of 100: Student's 97.5 % quantile × "
    "pooled standard deviation of the means of seeds × √(1/seeds + 1/seeds); null without seeds",
}


def compare_methods(methods: Mapping[str, Sequence[Run]]) -> MethodComparison:
    """Returns which of several methods is better on the same cases, and how far that can be believed.

    Metrics that are neither good nor bad are left out, as are those that have no value.

    Args:
        methods: Of each method the metrics of all cases: one sequence, or one for each seed.

    Returns:
        Ranks, bootstrap intervals and Wilcoxon's tests, by metric (``DEFINITIONS`` has the sources).
    """
    runs = [run for seeds in methods.values() for run in seeds]
    in_all = set.intersection(*({record.case_id for record in run} for run in runs))
    cases = [case for case in dict.fromkeys(record.case_id for record in runs[0]) if case in in_all]
    labels = list(dict.fromkeys(record.label for run in runs for record in run))
    metrics = dict.fromkeys(name for run in runs for record in run for name in record.values)
    present = _present(runs, cases, labels)
    found = {}
    for metric in metrics:
        values = {
            name: np.stack([table(run, metric, cases, labels) for run in seeds]) for name, seeds in methods.items()
        }
        if METRICS[metric].better != "neither" and any(np.isfinite(each[:, present]).any() for each in values.values()):
            found[metric] = _contests(values, present, labels, higher_is_better=METRICS[metric].better == "high")
    return MethodComparison(seeds={name: len(seeds) for name, seeds in methods.items()}, cases=cases, metrics=found)


def case_scores(methods: Mapping[str, Sequence[Run]], metric: str, cases: Sequence[str]) -> dict[str, Floats]:
    """Returns what ``compare_methods`` ranks: by method a value of each case.

    Args:
        methods: Of each method the metrics of all cases, for each seed.
        metric: The name of the metric.
        cases: The case ids, in the order of the values.

    Returns:
        ``(case,)`` of each method; infinite for the worst, nan where the reference has no label.
    """
    runs = [run for seeds in methods.values() for run in seeds]
    labels = list(dict.fromkeys(record.label for run in runs for record in run))
    present = _present(runs, cases, labels)
    some = present.any(axis=1)
    scores = {}
    for name, seeds in methods.items():
        values = np.stack([table(run, metric, cases, labels) for run in seeds])
        scores[name] = np.full(len(cases), np.nan)
        scores[name][some] = _of_cases(values[:, some], present[some], _worst(metric)).mean(axis=0)
    return scores


def _worst(metric: str) -> float:
    return -np.inf if METRICS[metric].better == "high" else np.inf


def _present(runs: Sequence[Run], cases: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Returns whether the reference has the label, ``(case, label)``."""
    has = {(r.case_id, r.label) for run in runs for r in run if r.status in ("found", "missed")}
    return np.array([[(case, label) in has for label in labels] for case in cases], dtype=bool).reshape(len(cases), -1)


def _contests(
    values: Mapping[str, Floats], present: np.ndarray, labels: Sequence[str], *, higher_is_better: bool
) -> Contests:
    """Returns the contests of the methods, over all labels and for each; ``values`` are ``(seed, case, label)``."""
    over_labels = _contest(values, present, higher_is_better)
    several = labels if len(labels) > 1 else ()
    of_labels = {}
    for i, label in enumerate(several):
        if present[:, i].any():
            of_label = {name: each[:, :, [i]] for name, each in values.items()}
            of_labels[label] = _contest(of_label, present[:, [i]], higher_is_better)
    return Contests(
        over_labels=_corrected([over_labels])[0],
        labels=dict(zip(of_labels, _corrected(list(of_labels.values())), strict=True)),
    )


def _contest(values: Mapping[str, Floats], present: np.ndarray, higher_is_better: bool) -> Contest:
    from scipy.stats import rankdata  # takes long to import

    some = present.any(axis=1)
    worst = -np.inf if higher_is_better else np.inf
    of_runs = {name: _of_cases(each[:, some], present[some], worst) for name, each in values.items()}
    scores = np.stack([each.mean(axis=0) for each in of_runs.values()])  # (method, case)
    draws = resamples(scores.shape[1])
    ranks = rankdata(-scores if higher_is_better else scores, axis=0).T  # (case, method)
    places = rankdata(ranks.mean(axis=0))
    drawn_places = rankdata((draws @ ranks).round(6), axis=1)
    kept = drawn_places == places
    return Contest(
        cases=scores.shape[1],
        standings={
            name: Standing(
                mean=_mean(scores[i]),
                interval=_interval(scores[i], draws),
                n=int(np.isfinite(scores[i]).sum()),
                mean_rank=float(ranks[:, i].mean()),
                place=float(places[i]),
                places=interval(drawn_places[:, i]),
                kept=float(kept[:, i].mean()),
            )
            for i, name in enumerate(values)
        },
        order_kept=float(kept.all(axis=1).mean()),
        differences=[
            _difference((first, second), (scores[i], scores[j]), draws, _noise(of_runs, first, second))
            for (i, first), (j, second) in combinations(enumerate(values), 2)
        ],
    )


def _of_cases(values: Floats, present: np.ndarray, worst: float) -> Floats:
    """Returns means over the labels that are present, ``(seed, case)``; ``worst`` where one has no value."""
    filled = np.where(np.isfinite(values), values, worst)
    of_cases: Floats = np.where(present, filled, 0.0).sum(axis=2) / present.sum(axis=1)
    return of_cases


def _mean(values: Floats) -> float | None:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else None


def _interval(values: Floats, draws: Floats) -> tuple[float, float] | None:
    """Returns the interval of the mean over what has a value."""
    return interval(means(values[:, None], draws)) if np.isfinite(values).sum() > 1 else None


def _difference(
    names: tuple[str, str], scores: tuple[Floats, Floats], draws: Floats, noise: float | None
) -> Difference:
    tied = scores[0] == scores[1]  # also where neither has a value
    with np.errstate(invalid="ignore"):
        differences = np.where(tied, 0.0, scores[0] - scores[1])
    measured = np.where(np.isfinite(scores[0]) & np.isfinite(scores[1]), differences, np.nan)
    p = _wilcoxon(differences)
    return Difference(
        first=names[0],
        second=names[1],
        mean=_mean(measured),
        interval=_interval(measured, draws),
        n=int(np.isfinite(measured).sum()),
        p=p,
        p_holm=p,
        noise=noise,
    )


def _wilcoxon(differences: Floats) -> float:
    """Returns p of Wilcoxon's test. What is infinite ranks above all that was measured; equal cases are left out."""
    from scipy.stats import wilcoxon  # takes long to import

    finite = np.abs(differences[np.isfinite(differences)])
    beyond = 1.0 + (finite.max() if finite.size else 0.0)
    ranked = np.clip(differences, -beyond, beyond)
    return float(wilcoxon(ranked).pvalue) if ranked.any() else 1.0


def _noise(of_runs: Mapping[str, Floats], first: str, second: str) -> float | None:
    """Returns the difference of two methods that seeds alone may make; None when no method has several seeds."""
    from scipy.stats import t  # takes long to import

    run_means = {name: [mean for mean in map(_mean, runs) if mean is not None] for name, runs in of_runs.items()}
    freedom = sum(len(each) - 1 for each in run_means.values() if len(each) > 1)
    if not freedom:
        return None
    pooled = sum(np.var(each) * len(each) for each in run_means.values() if len(each) > 1) / freedom
    share = 1 / len(of_runs[first]) + 1 / len(of_runs[second])
    return float(t.ppf(0.975, freedom) * np.sqrt(pooled * share))


def _corrected(contests: Sequence[Contest]) -> list[Contest]:
    """Returns the contests with ``p_holm`` for all differences of all contests together."""
    p = [difference.p for contest in contests for difference in contest.differences]
    corrected = iter(holm(p))
    return [
        contest.model_copy(
            update={"differences": [d.model_copy(update={"p_holm": next(corrected)}) for d in contest.differences]}
        )
        for contest in contests
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Returns p values corrected for their number.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1)) if len(p) else np.empty(0)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(each) for each in corrected]
