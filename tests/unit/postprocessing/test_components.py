import numpy as np
import pytest

from medseg.labels import IGNORED
from medseg.postprocessing.choosing import LEAST_CASES, Choice, Held, choose_rules
from medseg.postprocessing.components import Rule, postprocess

NAMES = ("liver", "cyst")


@pytest.fixture
def label_map() -> np.ndarray:
    """A liver of 5×5×5 voxels with a hole of 1 and a cyst of 1 in it, and two islands: 1 voxel and 8."""
    array = np.zeros((20, 12, 12), dtype=np.uint8)
    array[1:6, 1:6, 1:6] = 1
    array[2, 2, 2] = 0
    array[4, 4, 4] = 2
    array[9, 9, 9] = 1
    array[12:14, 2:4, 2:4] = 1
    return array


def done(label_map: np.ndarray, **rule: object) -> np.ndarray:
    result = label_map.copy()
    postprocess(result, [Rule(label="liver", **rule)], NAMES, voxel_volume_ml=0.001)  # type: ignore[arg-type]
    return result


def test_the_largest_component_stays_alone(label_map: np.ndarray) -> None:
    expected = label_map.copy()
    expected[6:] = 0
    assert np.array_equal(done(label_map, largest_component=True), expected)


def test_components_that_touch_at_an_edge_are_one_unless_faces_are_asked_for(label_map: np.ndarray) -> None:
    label_map[6, 6, 1:6] = 1  # beside an edge of the liver
    alone = label_map.copy()
    alone[6:] = 0
    assert done(label_map, largest_component=True)[6, 6].any()
    assert np.array_equal(done(label_map, largest_component=True, connectivity=6), alone)
    assert not done(label_map, min_volume_ml=0.006, connectivity=6)[6, 6].any()


def test_small_components_go_by_their_volume(label_map: np.ndarray) -> None:
    expected = label_map.copy()
    expected[9, 9, 9] = 0
    for ml in (0.0011, 0.008):
        assert np.array_equal(done(label_map, min_volume_ml=ml), expected)
    assert np.array_equal(done(label_map, min_volume_ml=0.001), label_map)
    assert done(label_map, min_volume_ml=0.0081)[12:14].sum() == 0


def test_holes_are_filled_but_other_labels_in_them_stay(label_map: np.ndarray) -> None:
    expected = label_map.copy()
    expected[2, 2, 2] = 1
    assert np.array_equal(done(label_map, fill_holes=True), expected)


def test_a_cup_has_no_hole() -> None:
    cup = np.zeros((6, 6, 6), dtype=np.uint8)
    cup[1:5, 1:5, 1:5] = 1
    cup[2:4, 2:4, 2:5] = 0  # open where the box of the label ends
    assert np.array_equal(done(cup, fill_holes=True), cup)


def test_nothing_of_a_label_is_nothing_to_do() -> None:
    assert not done(np.zeros((3, 3, 3), dtype=np.uint8), largest_component=True, fill_holes=True).any()


def chosen(*cases: Held) -> list[Choice]:
    """Where each of the cases was held back often enough."""
    return choose_rules(list(cases) * LEAST_CASES, NAMES)


def test_what_helps_is_chosen_label_by_label(label_map: np.ndarray) -> None:
    reference = label_map.copy()
    reference[6:] = 0
    reference[2, 2, 2] = 1
    (choice,) = chosen(Held(label_map, reference, 0.001), Held(reference, reference, 0.001))
    assert (choice.rule.label, choice.rule.largest_component, choice.rule.fill_holes) == ("liver", True, True)
    assert (choice.better, choice.worse) == (10, 0)
    assert choice.gain == pytest.approx((1 - 2 * 123 / (123 + 9 + 124)) / 2)
    assert "liver: holes filled, the largest component only (Dice +0.0195" in str(choice)


def test_nothing_is_chosen_where_it_harms_as_many_cases(label_map: np.ndarray) -> None:
    alone = label_map.copy()
    alone[6:] = 0
    # With islands that are right in one case, and wrong in the other.
    assert chosen(Held(label_map, label_map, 0.001), Held(label_map, alone, 0.001)) == []


def test_false_alarms_count() -> None:
    """A case without the label, of which a speck is predicted."""
    empty = np.zeros((4, 4, 4), dtype=np.uint8)
    speck = empty.copy()
    speck[1, 1, 1] = 1
    (choice,) = chosen(Held(speck, empty, 1.0), Held(empty, empty, 1.0))
    assert choice.rule.min_volume_ml == 3.0
    assert choice.gain == pytest.approx(0.5)


def test_what_was_not_annotated_decides_nothing(label_map: np.ndarray) -> None:
    reference = label_map.copy()
    reference[6:] = IGNORED  # the islands: nobody knows whether they are right
    assert chosen(Held(label_map, reference, 0.001)) == []
    reference[6:] = 0
    assert [choice.rule.label for choice in chosen(Held(label_map, reference, 0.001))] == ["liver"]
    assert chosen(Held(label_map, reference, 0.001, annotated=("cyst",))) == []


def test_nothing_is_chosen_on_few_cases(label_map: np.ndarray) -> None:
    reference = label_map.copy()
    reference[6:] = 0
    held = [Held(label_map, reference, 0.001)] * LEAST_CASES
    (choice,) = choose_rules(held, NAMES)
    assert choice.rule.chosen_on == LEAST_CASES
    assert choose_rules(held[1:], NAMES) == []
    assert choose_rules([*held[1:], held[0]._replace(annotated=("cyst",))], NAMES) == []


def test_what_is_removed_and_filled_is_told(label_map: np.ndarray) -> None:
    rule = Rule(label="liver", largest_component=True, fill_holes=True)
    asked = []

    def probabilities(voxels: np.ndarray) -> np.ndarray:
        asked.append(voxels)
        return np.linspace(0.5, 0.9, len(voxels))

    (change,) = postprocess(label_map.copy(), [rule], NAMES, 0.001, probabilities)
    assert sorted(map(tuple, asked[0])) == sorted(map(tuple, np.add(np.argwhere(label_map[6:] == 1), [6, 0, 0])))
    assert (change.components, change.voxels, change.filled) == (2, 9, 1)
    assert str(change) == (
        "postprocessing removed 2 components (9 voxels, 0.009 ml, probability 0.70 on average, 0.90 at most) and "
        "filled holes (1 voxel, 0.001 ml) of liver, by its rule 'holes filled, the largest component only'; "
        "--no-postprocessing leaves the mask as it is"
    )
    clean = label_map.copy()
    clean[6:] = 0
    assert postprocess(clean, [Rule(label="liver", largest_component=True)], NAMES, 0.001) == ()


def test_labels_together_have_the_components_of_all(label_map: np.ndarray) -> None:
    """A cyst apart from the liver goes with its island, one in the liver stays, whatever its own size."""
    label_map[9, 9, 8] = 2
    expected = label_map.copy()
    expected[6:] = 0
    rule = Rule(label="liver", together=("cyst",), largest_component=True)
    result = label_map.copy()
    (effect,) = postprocess(result, [rule], NAMES, voxel_volume_ml=0.001)
    assert np.array_equal(result, expected)
    assert (effect.components, effect.voxels) == (2, 10)
    assert "of liver with cyst" in str(effect)
    alone = done(label_map, largest_component=True)
    assert alone[9, 9, 8] == 2
