import json
from collections.abc import Iterable

import numpy as np
import pytest
import scipy.stats

from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.method_comparison import compare_methods, holm


def run(dices: Iterable[float | None], label: str = "liver", metric: str = "dice") -> list[LabelMetrics]:
    """Cases 0, 1, …, whose references all have the label; None: it was missed, and the metric is not defined."""
    return [
        LabelMetrics(case_id=str(i), label=label, status="missed" if value is None else "found", values={metric: value})
        for i, value in enumerate(dices)
    ]


def noisy(mean: float, n: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.05, n)


def test_a_better_method_comes_first_and_the_difference_is_tested() -> None:
    better, worse = noisy(0.8), noisy(0.75, seed=1)
    contest = compare_methods({"worse": [run(worse)], "better": [run(better)]}).metrics["dice"].over_labels
    assert contest.standings["better"].place == 1
    assert contest.standings["worse"].mean == pytest.approx(worse.mean())
    (difference,) = contest.differences
    assert (difference.first, difference.second) == ("worse", "better")
    assert difference.mean == pytest.approx((worse - better).mean())
    assert difference.p_holm == difference.p == pytest.approx(scipy.stats.wilcoxon(worse, better).pvalue)
    judged = scipy.stats.bootstrap((worse - better,), np.mean, n_resamples=9999, method="percentile", rng=0)
    assert difference.interval == pytest.approx(judged.confidence_interval, abs=0.003)
    assert difference.noise is None


def test_how_stable_a_ranking_is() -> None:
    far = compare_methods({"a": [run(noisy(0.9))], "b": [run(noisy(0.5, seed=1))]}).metrics["dice"].over_labels
    assert (far.order_kept, far.standings["a"].kept, far.standings["a"].places) == (1, 1, (1, 1))
    near = compare_methods({"a": [run(noisy(0.8))], "b": [run(noisy(0.8, seed=1))]}).metrics["dice"].over_labels
    assert near.order_kept < 0.95
    assert near.standings["a"].places == (1, 2)


def test_the_same_predictions_share_a_place() -> None:
    values = noisy(0.8)
    contest = compare_methods({"a": [run(values)], "b": [run(values)]}).metrics["dice"].over_labels
    assert [standing.place for standing in contest.standings.values()] == [1.5, 1.5]
    assert contest.differences[0].p == 1


def test_a_missed_label_is_worse_than_any_distance() -> None:
    """The mean is over fewer cases and looks better; rank and test are over all."""
    honest, hiding = [5.0] * 12, [4.9] * 4 + [None] * 8
    contest = (
        compare_methods({"hiding": [run(hiding, metric="hd95_mm")], "honest": [run(honest, metric="hd95_mm")]})
        .metrics["hd95_mm"]
        .over_labels
    )
    assert contest.standings["hiding"].mean == pytest.approx(4.9)
    assert (contest.standings["hiding"].n, contest.standings["honest"].n) == (4, 12)
    assert contest.standings["honest"].place == 1
    (difference,) = contest.differences
    assert (difference.mean, difference.n) == (pytest.approx(-0.1), 4)
    ranks = np.array([-1.0] * 4 + [9.0] * 8)
    assert difference.p == pytest.approx(scipy.stats.wilcoxon(ranks).pvalue)


def test_cases_without_the_label_and_cases_that_one_method_lacks_are_left_out() -> None:
    a, b = run([0.5, 0.6, 0.7]), run([0.4, 0.5])
    absent = LabelMetrics(case_id="0", label="liver", status="absent", values={"dice": None})
    false_alarm = LabelMetrics(case_id="0", label="liver", status="false_alarm", values={"dice": 0.0})
    comparison = compare_methods({"a": [[absent, *a[1:]]], "b": [[false_alarm, *b[1:]]]})
    assert comparison.cases == ["0", "1"]
    assert comparison.metrics["dice"].over_labels.cases == 1


def test_single_labels_are_corrected_for_their_number() -> None:
    methods = {
        name: [run(noisy(liver, seed=i)) + run(noisy(0.7, seed=i + 10), "tumour")]
        for i, (name, liver) in enumerate({"a": 0.8, "b": 0.77}.items())
    }
    contests = compare_methods(methods).metrics["dice"]
    liver, tumour = (contests.labels[name].differences[0] for name in ("liver", "tumour"))
    assert liver.p < tumour.p
    assert liver.p_holm == pytest.approx(2 * liver.p)
    both = (noisy(0.8) + noisy(0.7, seed=10)) / 2
    assert contests.over_labels.standings["a"].mean == pytest.approx(both.mean())


def test_seeds_of_a_method_say_what_is_noise() -> None:
    """Means of 0.80, 0.81, 0.82 and one run of another: t(2) × 0.01 × √(1/3 + 1)."""
    seeds = [run(np.full(10, mean)) for mean in (0.80, 0.81, 0.82)]
    comparison = compare_methods({"many": seeds, "one": [run(np.full(10, 0.85))]})
    (difference,) = comparison.metrics["dice"].over_labels.differences
    assert comparison.seeds == {"many": 3, "one": 1}
    assert difference.mean == pytest.approx(0.81 - 0.85)
    assert difference.noise == pytest.approx(scipy.stats.t.ppf(0.975, 2) * 0.01 * np.sqrt(4 / 3))


def test_metrics_that_are_neither_good_nor_bad_are_not_compared() -> None:
    runs = {name: [run([1.0, 2.0], metric="reference_ml")] for name in "ab"}
    assert compare_methods(runs).metrics == {}


def test_everything_can_be_written_as_json() -> None:
    runs = {"a": [run([None, 3.0], metric="hd95_mm")], "b": [run([2.0, None], metric="hd95_mm")]}
    text = json.dumps(compare_methods(runs).model_dump(), allow_nan=False)
    assert '"n": 0' in text  # never both measured


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []
