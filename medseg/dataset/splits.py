"""Which cases train and which validate."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medseg.errors import ConfigError

# The seed of nnU-Net's splits, so that the same cases are compared: KFold(5, shuffle=True, random_state=12345) of
# scikit-learn over sorted names.
SPLIT_SEED = 12345


@dataclass(frozen=True)
class Split:
    """Case ids, sorted."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def split_fold(group_by_case: Mapping[str, str], fold: int, folds: int) -> Split:
    """Fold ``fold`` of ``folds``; the cases of one group stay together.

    Where every case is a group of its own, this is scikit-learn's shuffled KFold over sorted names. With fewer groups
    than folds there are as many folds as groups. A single group trains and validates on itself.

    Raises ``ConfigError`` when there is no such fold.
    """
    groups = sorted(set(group_by_case.values()))
    if len(groups) == 1:
        everything = tuple(sorted(group_by_case))
        return Split(everything, everything)
    folds = min(folds, len(groups))
    if fold >= folds:
        raise ConfigError(
            f"training.fold={fold}: there are {folds} folds ({len(groups)} groups); take 0 to {folds - 1}"
        )
    order = np.arange(len(groups))
    np.random.RandomState(SPLIT_SEED).shuffle(order)
    held_back = {groups[i] for i in np.array_split(order, folds)[fold]}
    return Split(
        training=tuple(sorted(case for case, group in group_by_case.items() if group not in held_back)),
        validation=tuple(sorted(case for case, group in group_by_case.items() if group in held_back)),
    )
