"""What a training and its validation take of the time."""

import pytest

from medseg.training.forecast import LEAST_TRAINING_SHARE, RESERVE, TimeShares


def test_all_held_back_cases_are_validated_where_there_is_time() -> None:
    shares = TimeShares.of(600, {"a": 20.0, "b": 40.0})
    assert shares.cases == ("a", "b")
    assert shares.training == pytest.approx(600 - RESERVE * 60)


def test_validation_takes_no_more_than_its_share() -> None:
    seconds = {f"case_{i:02}": 20.0 for i in range(40)}
    shares = TimeShares.of(900, seconds)
    taken = RESERVE * 20 * len(shares.cases)
    assert taken <= (1 - LEAST_TRAINING_SHARE) * 900 < taken + RESERVE * 20
    assert shares.training + taken == pytest.approx(900)
    # From all over the list: names often stand for sites or dates.
    assert shares.cases[0] == "case_00"
    assert shares.cases[-1] >= "case_36"


def test_large_cases_count_for_what_they_take() -> None:
    assert len(TimeShares.of(100, {"small": 1.0, "large": 90.0}).cases) == 1


def test_one_case_is_validated_whatever_it_takes() -> None:
    shares = TimeShares.of(10, {"a": 100.0, "b": 100.0})
    assert shares.cases == ("a",)
    assert shares.training == pytest.approx(10 * LEAST_TRAINING_SHARE)
