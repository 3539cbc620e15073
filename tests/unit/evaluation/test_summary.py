import json

import pytest

from medseg.evaluation.case import LabelMetrics, Status
from medseg.evaluation.summary import summarise


def record(case_id: str, label: str, status: Status, dice: float | None, hd95_mm: float | None = None) -> LabelMetrics:
    return LabelMetrics(
        case_id=case_id,
        label=label,
        status=status,
        dice=dice,
        iou=dice,
        hd95_mm=hd95_mm,
        surface_dice=dice,
        prediction_ml=1.0,
        reference_ml=1.0,
    )


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
    assert (liver.dice.mean, liver.dice.median, liver.dice.n) == (pytest.approx(0.5), 0.6, 3)
    assert (liver.hd95_mm.mean, liver.hd95_mm.n) == (3.0, 2)


def test_labels_weigh_the_same_however_many_cases_they_have() -> None:
    over_labels = summarise(RECORDS).over_labels
    assert over_labels["dice"].mean == pytest.approx((0.5 + 0.2) / 2)
    assert over_labels["dice"].median == pytest.approx((0.6 + 0.2) / 2)
    assert over_labels["hd95_mm"].mean == pytest.approx((3 + 10) / 2)
    assert over_labels["dice"].n == 2


def test_a_label_that_no_case_has_is_null_and_leaves_the_others_alone() -> None:
    summary = summarise([*RECORDS, record("a", "spleen", "absent", None)])
    assert summary.labels["spleen"].dice.mean is None
    assert summary.over_labels["dice"].n == 2
    assert json.dumps(summary.model_dump(), allow_nan=False)
