import pytest

from medseg.dataset.splits import Split, split_fold
from medseg.errors import ConfigError


def test_the_split_is_that_of_scikit_learn() -> None:
    """KFold(5, shuffle=True, random_state=12345).split(range(23)), as scikit-learn 1.9.1 gave it."""
    expected = [[3, 8, 10, 17, 19], [0, 7, 12, 15, 16], [6, 11, 14, 18, 20], [9, 13, 21, 22], [1, 2, 4, 5]]
    names = [f"case_{i:02d}" for i in range(23)]
    for fold, held_back in enumerate(expected):
        split = split_fold({name: name for name in names}, fold, 5)
        assert split.validation == tuple(names[i] for i in held_back)
        assert set(split.training) == set(names) - set(split.validation)


def test_groups_stay_together() -> None:
    groups = {f"p{p}_{scan}": f"p{p}" for p in range(7) for scan in "abc"}
    for fold in range(5):
        split = split_fold(groups, fold, 5)
        assert not {groups[c] for c in split.training} & {groups[c] for c in split.validation}
        assert len(split.training) + len(split.validation) == 21


def test_labels_are_shared_out_over_the_folds() -> None:
    """Of 40 cases 8 have a lesion and 5 a rare one; the plain split of these names leaves folds without."""
    names = [f"case_{i:02d}" for i in range(40)]
    present = {
        name: frozenset({"organ", *(["lesion"] if i < 8 else []), *(["rare"] if 6 <= i < 11 else [])})
        for i, name in enumerate(names)
    }
    splits = [split_fold({name: name for name in names}, fold, 5, present) for fold in range(5)]
    for label, n in (("lesion", (1, 2)), ("rare", (1,))):
        assert all(sum(label in present[case] for case in split.validation) in n for split in splits), label
    assert all(7 <= len(split.validation) <= 9 for split in splits)
    assert sorted(case for split in splits for case in split.validation) == names


def test_where_all_have_the_same_labels_the_split_is_the_plain_one() -> None:
    names = {f"case_{i:02d}": f"case_{i:02d}" for i in range(23)}
    present = dict.fromkeys(names, frozenset({"organ"}))
    assert split_fold(names, 2, 5, present) == split_fold(names, 2, 5)


def test_groups_stay_together_where_labels_are_shared_out() -> None:
    groups = {f"p{p}_{scan}": f"p{p}" for p in range(9) for scan in "abc"}
    present = {case: frozenset({"lesion"}) if case.endswith("a") and case < "p5" else frozenset() for case in groups}
    for fold in range(5):
        split = split_fold(groups, fold, 5, present)
        assert not {groups[c] for c in split.training} & {groups[c] for c in split.validation}
        assert sum("lesion" in present[case] for case in split.validation) == 1


def test_few_groups_make_few_folds_and_one_validates_on_itself() -> None:
    assert len(split_fold({"a": "a", "b": "b"}, 1, 5).validation) == 1
    alone = split_fold({"a": "a"}, 0, 5)
    assert alone.training == alone.validation == ("a",)
    with pytest.raises(ConfigError, match=r"training.fold=3: there are 2 folds"):
        split_fold({"a": "a", "b": "b"}, 3, 5)


def test_a_patient_on_both_sides_is_found() -> None:
    groups = {"a_1": "a", "a_2": "a", "b": "b", "c": "c"}
    assert Split(("a_1", "b"), ("a_2", "c")).on_both_sides(groups) == ["a"]
    assert Split(("a_1", "a_2"), ("b",)).on_both_sides(groups) == []
    everything = tuple(groups)
    assert Split(everything, everything).on_both_sides(groups) == []
