import pytest

from medseg.dataset.splits import split_fold
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


def test_few_groups_make_few_folds_and_one_validates_on_itself() -> None:
    assert len(split_fold({"a": "a", "b": "b"}, 1, 5).validation) == 1
    alone = split_fold({"a": "a"}, 0, 5)
    assert alone.training == alone.validation == ("a",)
    with pytest.raises(ConfigError, match=r"training.fold=3: there are 2 folds"):
        split_fold({"a": "a", "b": "b"}, 3, 5)
