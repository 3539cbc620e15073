from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.worst import worst_first


def record(case_id: str, label: str, **values: float | None) -> LabelMetrics:
    return LabelMetrics(case_id=case_id, label=label, status="found", values=values)


def test_cases_with_the_lowest_mean_dice_come_first() -> None:
    records = [
        record("a", "liver", dice=0.9, hd95_mm=1.0),
        record("a", "tumour", dice=0.1, hd95_mm=9.0),
        record("b", "liver", dice=0.4, hd95_mm=2.0),
        record("b", "tumour", dice=None, hd95_mm=None),
        record("c", "liver", dice=None, hd95_mm=None),
    ]
    assert worst_first(records) == {"b": 0.4, "a": 0.5}


def test_large_distances_are_worse_than_small_ones() -> None:
    records = [record("a", "liver", hd95_mm=1.0), record("b", "liver", hd95_mm=7.0)]
    assert list(worst_first(records)) == ["b", "a"]
