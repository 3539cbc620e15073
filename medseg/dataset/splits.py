"""Which cases train and which validate."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.errors import ConfigError

# The seed of nnU-Net's splits, so that the same cases are compared: KFold(5, shuffle=True, random_state=12345) of
# scikit-learn over sorted names.
SPLIT_SEED = 12345


@dataclass(frozen=True)
class Split:
    """The cases of a fold.

    Attributes:
        training: Case ids, sorted.
        validation: Case ids of those that are held back, sorted.

    Example:
        >>> split = Split(training=("a1", "b"), validation=("a2",))
        >>> split.on_both_sides({"a1": "patient a", "a2": "patient a", "b": "patient b"})
        ['patient a']
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]

    def on_both_sides(self, group_by_case: Mapping[str, str]) -> list[str]:
        """Returns the groups that have other cases in training than in validation, sorted.

        Args:
            group_by_case: The group of each case, by case id.
        """
        only_trained, only_validated = (
            {group_by_case[case] for case in set(these) - set(others)}
            for these, others in ((self.training, self.validation), (self.validation, self.training))
        )
        return sorted(only_trained & only_validated)


def split_fold(
    group_by_case: Mapping[str, str], fold: int, folds: int, present: Mapping[str, frozenset[str]] | None = None
) -> Split:
    """Returns which cases train and which validate in one fold; the cases of one group stay together.

    Where all groups have the same labels, and every case is a group of its own, this is scikit-learn's shuffled KFold
    over sorted names, with nnU-Net's seed; else each label is shared out evenly over the folds (iterative
    stratification, Sechidis et al. 2011). With fewer groups than folds there are as many folds as groups. A single
    group trains and validates on itself.

    Args:
        group_by_case: The group (a patient) of each case_id.
        fold: Counted from 0.
        folds: How many there are.
        present: The labels that each case has; None: all have the same.

    Raises:
        ConfigError: There is no such fold.

    Examples:
        >>> split_fold({name: name for name in "abcde"}, fold=0, folds=5)
        Split(training=('b', 'c', 'd', 'e'), validation=('a',))
    """
    groups = sorted(set(group_by_case.values()))
    if len(groups) == 1:
        everything = tuple(sorted(group_by_case))
        return Split(everything, everything)
    folds = count_folds(group_by_case, folds)
    if fold >= folds:
        raise ConfigError(
            f"training.fold={fold}: there are {folds} folds ({len(groups)} groups); take 0 to {folds - 1}"
        )
    order = np.arange(len(groups))
    np.random.RandomState(SPLIT_SEED).shuffle(order)
    labels: dict[str, frozenset[str]] = dict.fromkeys(groups, frozenset())
    for case, found in (present or {}).items():
        labels[group_by_case[case]] |= found
    if len(set(labels.values())) == 1:
        held_back = {groups[i] for i in np.array_split(order, folds)[fold]}
    else:
        held_back = set(_stratified([groups[i] for i in order], labels, folds)[fold])
    return Split(
        training=tuple(sorted(case for case, group in group_by_case.items() if group not in held_back)),
        validation=tuple(sorted(case for case, group in group_by_case.items() if group in held_back)),
    )


def count_folds(group_by_case: Mapping[str, str], folds: int) -> int:
    """Returns how many folds there are: ``folds``, or as many as there are groups."""
    return min(folds, len(set(group_by_case.values())))


def _stratified(groups: Sequence[str], labels: Mapping[str, frozenset[str]], folds: int) -> list[list[str]]:
    """Returns the groups by fold: those of the rarest label are shared out first, each to the fold that has fewest of
    them.

    Source: iterative stratification, Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10.
    """
    held: list[list[str]] = [[] for _ in range(folds)]
    left = list(groups)
    while left:
        counts = Counter(label for group in left for label in sorted(labels[group]))
        rarest = min(counts, key=lambda label: (counts[label], label)) if counts else None
        for group in [each for each in left if rarest is None or rarest in labels[each]]:
            having = [sum(rarest in labels[other] for other in fold) for fold in held]
            emptiest = min(range(folds), key=lambda i: (having[i], len(held[i])))
            held[emptiest].append(group)
            left.remove(group)
    return held
