import json

import numpy as np
import pytest
import scipy.stats

from medseg.evaluation.case import LabelMetrics, Status
from medseg.evaluation.summary import summarise


def record(case_id: str, label: str, status: Status, dice: float | None, hd95_mm: float | None = None) -> LabelMetrics:
    return LabelMetrics(case_id=case_id, label=label, status=status, values={"dice": dice, "hd95_mm": hd95_mm})


RECORDS = [
    record("a", "liver", "found", 0.9, 2.0),
    record("b", "liver", "found", 0.6, 4.0),
    record("c", "liver", "missed", 0.0),
    record("d", "liver", "absent", None),
    record("a", "tumour", "false_alarm", 0.0),
    record("b", "tumour", "found", 0.4, 10.0),
]


def test_averages_go_over_defined_values_and_say_how_many_they_are() -> None:
    liver = summarise(RECORDS).labels["liver"]
    assert liver.cases == 4
    assert liver.statuses == {"found": 2, "missed": 1, "false_alarm": 0, "absent": 1}
    dice, hd95 = liver.metrics["dice"], liver.metrics["hd95_mm"]
    assert (dice.mean, dice.median, dice.n) == (pytest.approx(0.5), 0.6, 3)
    assert dice.quartiles == pytest.approx((0.3, 0.75))
    assert (hd95.mean, hd95.n) == (3.0, 2)


def test_labels_weigh_the_same_however_many_cases_they_have() -> None:
    over_labels = summarise(RECORDS).over_labels
    assert over_labels["dice"].mean == pytest.approx((0.5 + 0.2) / 2)
    assert over_labels["dice"].median == pytest.approx((0.6 + 0.2) / 2)
    assert over_labels["hd95_mm"].mean == pytest.approx((3 + 10) / 2)
    assert over_labels["dice"].n == 2


def test_a_label_that_no_case_has_is_null_and_leaves_the_others_alone() -> None:
    summary = summarise([*RECORDS, record("a", "spleen", "absent", None)])
    assert summary.labels["spleen"].metrics["dice"].mean is None
    assert summary.over_labels["dice"].n == 2
    assert json.dumps(summary.model_dump(), allow_nan=False)


def test_no_records_no_summary() -> None:
    assert summarise([]).labels == {}


def test_one_case_has_no_interval() -> None:
    summary = summarise([record("a", "liver", "found", 0.9)])
    assert summary.labels["liver"].metrics["dice"].interval is None
    assert summary.over_labels["dice"].interval is None


def test_intervals_are_those_of_scipy_and_come_out_the_same_each_time() -> None:
    dices = np.random.default_rng(0).beta(8, 2, 60)
    records = [record(str(i), "liver", "found", dice) for i, dice in enumerate(dices)]
    interval = summarise(records).labels["liver"].metrics["dice"].interval
    judged = scipy.stats.bootstrap((dices,), np.mean, n_resamples=9999, method="percentile", rng=1)
    assert interval == pytest.approx(judged.confidence_interval, abs=0.002)
    assert summarise(records).labels["liver"].metrics["dice"].interval == interval
    assert summarise(records).over_labels["dice"].interval == pytest.approx(interval)
