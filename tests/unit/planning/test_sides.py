from pathlib import Path

import numpy as np
import pytest

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.labels import Labels
from medseg.plan import Plan
from medseg.planning.sides import axes_to_mirror, mirrored_pairs
from medseg.setting_types import Mirror

SHAPE = (40, 30, 20)
# Corners (x, y, z) and edges of boxes in one case; the others are shifted.
PAIR = {"a": ((5, 10, 5), (6, 8, 10)), "b": ((28, 11, 6), (7, 7, 9))}
DIFFERENT = {
    "one behind the other": {"a": ((10, 2, 5), (6, 8, 10)), "b": ((11, 16, 5), (6, 8, 10))},
    "of other size": {"a": ((5, 10, 5), (6, 8, 10)), "b": ((20, 11, 6), (15, 12, 12))},
    "at other height": {"a": ((5, 10, 0), (6, 8, 8)), "b": ((28, 10, 11), (6, 8, 8))},
    "one in the other": {"a": ((10, 10, 5), (9, 9, 9)), "b": ((12, 12, 7), (7, 7, 7))},
}


class Drawn:
    """Boxes instead of cases."""

    def __init__(
        self, boxes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]], swapped: tuple[str, ...] = ()
    ) -> None:
        self.labels = Labels.from_names({name: i for i, name in enumerate(boxes, start=1)})
        self.boxes, self.swapped = boxes, swapped

    def foreground(self, case_id: str) -> np.ndarray:
        rows = []
        boxes = list(self.boxes.values())
        for value, (corner, edges) in enumerate(boxes[::-1] if case_id in self.swapped else boxes, start=1):
            inside = np.argwhere(np.ones(edges)) + corner + int(case_id)
            rows.append(np.hstack([np.full((len(inside), 1), value), inside]))
        return np.concatenate(rows)


def pairs(drawn: Drawn, n: int = 4, orientation: str = "RAS") -> tuple[tuple[str, str], ...]:
    return mirrored_pairs(drawn, [str(i) for i in range(n)], orientation)  # type: ignore[arg-type]


def test_two_of_a_kind_on_both_sides_are_a_pair() -> None:
    assert pairs(Drawn(PAIR)) == (("a", "b"),)


@pytest.mark.parametrize("name", DIFFERENT)
def test_others_are_none(name: str) -> None:
    assert pairs(Drawn(DIFFERENT[name])) == ()


def test_labels_that_change_sides_are_none() -> None:
    """Such as the diseased and the healthy one: there is no left and right to be confused."""
    assert pairs(Drawn(PAIR, swapped=("2",))) == ()


def test_two_cases_say_nothing() -> None:
    assert pairs(Drawn(PAIR), n=2) == ()


def test_the_axis_is_that_of_left_and_right() -> None:
    assert pairs(Drawn(PAIR), orientation="ASR") == ()


def axes(plan: Plan, names: tuple[str, ...], wanted: Mirror = "all", flat: bool = False) -> tuple[int, ...]:
    return axes_to_mirror(plan, Labels.from_names({name: i for i, name in enumerate(names, 1)}), wanted, flat)


def test_pairs_forbid_mirroring_from_left_to_right(tiny_plan: Plan) -> None:
    assert axes(tiny_plan, ("a", "b")) == (0, 1, 2)
    assert axes(tiny_plan.model_copy(update={"mirrored_pairs": (("a", "b"),)}), ("a", "b")) == (1, 2)
    assert axes(tiny_plan, ("left kidney", "right kidney")) == (1, 2)
    assert axes(tiny_plan, ("left kidney", "right kidney"), "auto") == ()
    assert axes(tiny_plan, ("left kidney", "right kidney"), "left-right") == ()


def test_the_axis_of_left_and_right_is_found_by_the_orientation(tiny_plan: Plan) -> None:
    turned = tiny_plan.model_copy(update={"grid": tiny_plan.grid.model_copy(update={"orientation": "PIR"})})
    assert axes(turned, ("left kidney", "right kidney")) == (0, 1)
    assert axes(turned, ("liver",), "left-right") == (2,)


@pytest.mark.parametrize(
    ("wanted", "flat", "expected"),
    [
        ("auto", False, ()),  # the liver lies on the right, and no patient stands on the head
        ("auto", True, (0, 1, 2)),
        ("left-right", True, (0,)),
        ("all", False, (0, 1, 2)),
        ("none", True, ()),
    ],
)
def test_axes_are_those_of_the_setting(tiny_plan: Plan, wanted: Mirror, flat: bool, expected: tuple[int, ...]) -> None:
    assert axes(tiny_plan, ("liver",), wanted, flat) == expected


def test_2d_networks_mirror_what_they_see(tiny_plan: Plan) -> None:
    sagittal = tiny_plan.model_copy(update={"dims": 2, "slice_axis": 0})
    assert axes(sagittal, ("liver",), "auto") == ()
    assert axes(sagittal, ("liver",), "all") == (1, 2)


def test_the_balls_of_the_tests_are_none(prepared: PreparedDataset) -> None:
    assert mirrored_pairs(prepared, sorted(prepared.cases), "RAS") == ()


@pytest.mark.slow
def test_anterior_and_posterior_hippocampus_are_none(real_data: Path, tmp_path: Path) -> None:
    from medseg.workflows.preprocess import preprocess

    preprocess(real_data / "hippocampus", tmp_path, config=load())
    dataset = PreparedDataset(tmp_path)
    assert mirrored_pairs(dataset, sorted(dataset.cases), "RAS") == ()
