import numpy as np
import pytest

from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.objects import ComparedObject
from medseg.labels import Labels
from medseg.report.distributions import MOST_DOTS, agreements, distributions

LABELS = Labels.from_names({"liver": 1})


def records(values: list[float | None], metric: str = "dice") -> list[LabelMetrics]:
    return [
        LabelMetrics(case_id=f"case_{i}", label="liver", status="found", values={metric: value})
        for i, value in enumerate(values)
    ]


def test_a_box_is_that_of_the_quartiles() -> None:
    (drawing,) = distributions(records([0.1, 0.6, 0.7, 0.8, 0.9, None]), LABELS)
    (row,) = drawing.rows
    assert row.median == pytest.approx(0.7)
    assert row.box == tuple(drawing.scale(value) for value in (0.6, 0.6, 0.7, 0.8, 0.9))  # 0.1 is far out
    assert [dot.case_id for dot in row.dots] == [f"case_{i}" for i in range(5)]


def test_of_many_cases_only_those_far_out_are_dots() -> None:
    values = [0.0, *np.linspace(0.8, 0.9, MOST_DOTS).tolist()]
    (drawing,) = distributions(records(values), LABELS)
    assert [dot.case_id for dot in drawing.rows[0].dots] == ["case_0"]


def test_volumes_have_no_distribution() -> None:
    assert list(distributions(records([1.0, 2.0], "prediction_ml"), LABELS)) == []


def test_agreement_of_volumes_is_that_of_bland_and_altman() -> None:
    known = [(10.0, 9.0), (20.0, 22.0), (30.0, 29.0), (40.0, 38.0)]
    measured = [
        LabelMetrics(case_id=str(i), label="liver", status="found", values={"prediction_ml": p, "reference_ml": r})
        for i, (p, r) in enumerate(known)
    ]
    (drawing,) = agreements(measured, LABELS)
    differences = [1.0, -2.0, 1.0, 2.0]
    assert drawing.bias == pytest.approx(np.mean(differences))
    assert drawing.limits[1] - drawing.bias == pytest.approx(1.96 * np.std(differences, ddof=1))
    assert drawing.dots[1].x == drawing.across(21.0)
    assert drawing.dots[1].y == drawing.up(-2.0)


def test_objects_agree_by_their_numbers_and_by_the_sizes_of_those_that_match() -> None:
    numbers = [(7.0, 5.0), (20.0, 22.0)]
    measured = [
        LabelMetrics(case_id=str(i), label="liver", status="found",
                     values={"prediction_objects": p, "reference_objects": r})
        for i, (p, r) in enumerate(numbers)
    ]  # fmt: skip
    fates = ("matched", "matched", "missed")
    compared = [
        ComparedObject(case_id="0", label="liver", fate=fate, reference="1", prediction="1", iou=0.7,
                       reference_voxels=10, prediction_voxels=12 + 2 * i)
        for i, fate in enumerate(fates)
    ]  # fmt: skip
    counts, sizes = agreements(measured, LABELS, compared)
    assert (counts.bias, counts.what) == (0, ("numbers of objects", ""))
    assert [dot.value for dot in counts.dots] == [2, -2]
    assert [dot.value for dot in sizes.dots] == [2, 4]
    assert sizes.bias == 3


def test_of_many_objects_some_are_dots() -> None:
    compared = [
        ComparedObject(case_id=str(i), label="liver", fate="matched", reference="1", prediction="1", iou=0.7,
                       reference_voxels=10, prediction_voxels=10 + i % 3)
        for i in range(5 * MOST_DOTS)
    ]  # fmt: skip
    (drawing,) = agreements([], LABELS, compared)
    assert len(drawing.dots) == MOST_DOTS
    assert drawing.bias == pytest.approx(1)  # of all
