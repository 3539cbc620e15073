import numpy as np
import pytest

from medseg.inferers.review import HeldBack, Review, learn_review


def held_back(n: int, label: str = "liver", seed: int = 0, truth: float = 1.0) -> list[HeldBack]:
    """Cases of about 100 ml. The Dice is 0.2 below the expected one, as far as ``truth`` goes; the rest is chance."""
    random = np.random.default_rng(seed)
    expected = random.uniform(0.8, 1.0, n)
    chance = random.permutation(expected)
    dice = truth * expected + (1 - truth) * chance - 0.2
    volumes = random.uniform(80, 120, n)
    return [HeldBack(str(i), label, float(expected[i]), float(dice[i]), volumes[i], volumes[i]) for i in range(n)]


def learnt(held: list[HeldBack]) -> Review:
    review = learn_review(held)
    assert review is not None
    return Review.model_validate_json(review.model_dump_json())  # as a model keeps it


def test_the_estimate_is_the_dice_that_held_back_cases_had() -> None:
    review = learnt(held_back(40))
    dice = [review.estimates({"liver": expected})["liver"] for expected in (0.0, 0.4, 0.82, 0.9, 0.98, 1.0)]
    assert dice == sorted(dice)
    assert dice[2:5] == pytest.approx([0.62, 0.7, 0.78], abs=0.01)
    assert dice[0] == 0
    assert 0.25 < dice[1] < 0.35  # lower than all that was seen: in a straight line to 0
    assert review.labels["liver"].correlation == pytest.approx(1)
    assert review.estimates({"spleen": 0.9}) == {}  # never seen


def test_what_is_as_usual_is_not_flagged_and_what_is_odd_is_told() -> None:
    review = learnt(held_back(40))
    assert review.reasons({"liver": 0.9}, {"liver": 100.0}) == []
    (low,) = review.reasons({"liver": 0.5}, {"liver": 100.0})
    assert low.startswith("liver: estimated Dice 0.38, 0.35 below the usual; in nine of ten held-back cases no label")
    (missing,) = review.reasons({}, {"liver": 0.0})
    assert missing == "liver: not found, and 40 of 40 held-back cases have it"
    (tiny,) = review.reasons({"liver": 0.9}, {"liver": 1.0})
    assert tiny == "liver: 0.0094 times as large as usual; up to 2.2 times as large or small is ordinary"


def test_a_label_that_not_every_case_has_may_be_missing() -> None:
    held = held_back(40)
    held[::3] = [HeldBack(each.case_id, "liver", None, None, 0.0, 0.0) for each in held[::3]]
    review = learnt(held)
    assert review.labels["liver"].present == 26
    assert review.reasons({}, {"liver": 0.0}) == []


def test_about_a_tenth_is_flagged_however_many_labels_there_are() -> None:
    held = [each for i in range(12) for each in held_back(60, f"label {i}", seed=i)]
    check = learnt(held).check
    assert check is not None
    assert (check.cases, check.worst) == (60, 6)
    assert 3 <= check.flagged <= 12


def test_the_check_tells_a_good_estimate_from_one_that_says_nothing() -> None:
    good, bad = (learnt(held_back(200, truth=truth)).check for truth in (1.0, 0.0))
    assert good is not None
    assert bad is not None
    assert good.worst_flagged >= 15
    assert bad.worst_flagged <= 6
    assert f"{good.worst_flagged} of the 20 with the lowest Dice" in str(good)


def test_too_few_cases_give_no_rules() -> None:
    assert learn_review([]) is None
    assert learn_review(held_back(1)) is None
    assert learn_review(held_back(9)) is None
    few = learnt([*held_back(10), *held_back(3, "spleen")])
    assert list(few.labels) == ["liver"]
    assert few.check is None  # nine would be left to learn from


def test_cases_that_are_all_alike_give_rules_too() -> None:
    review = learnt([HeldBack(str(i), "liver", 0.9, 0.8, 5.0, 5.0) for i in range(12)])
    assert review.labels["liver"].correlation is None
    assert review.reasons({"liver": 0.9}, {"liver": 7.0}) == []
    assert review.reasons({"liver": 0.5}, {"liver": 7.0}) != []
