"""Which cases a person should look at: rules learnt from the cases that were held back from training.

Of each label: how the Dice that is expected (``medseg.inferers.confidence``) goes with the Dice that masks really had,
what volumes are usual, and whether every case has it. Of all labels together: how far below its usual estimate the
worst label of a case may lie.

Whatever rules there are, a case is looked at whose image has odd values (``medseg.transforms.intensities``), and one
from which postprocessing took what the network was sure of.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from medseg.postprocessing.components import RuleEffect
from medseg.records import Record

# Held-back cases with a label below which nothing is said of it: of fewer, no tenth can be told from the rest.
LEAST_CASES = 10
# Of the held-back cases, which stay unflagged by the estimate, and which have a label that must be there.
MOST = 0.9
# Interquartile ranges (of the logarithm) beyond the quartiles from which on a volume is odd: Hoaglin, Iglewicz 1987.
FENCE = 2.2
LEAST_FACTOR = 2.0  # beyond the quartiles, however alike the held-back cases are
PARTS = 10  # of the held-back cases, each judged by rules learnt from the others


# Mean probability from which on a component that postprocessing removes should be looked at.
SURE = 0.8


@dataclass(frozen=True)
class HeldBack:
    """One label of a case that was not trained on. Volumes are in ml; in pictures a pixel counts as one mm³."""

    case_id: str
    label: str
    expected_dice: float | None
    dice: float | None
    predicted_ml: float
    reference_ml: float


class LabelReview(Record):
    """What is known of a label from ``cases`` held-back cases, ``present`` of which have it.

    ``expected_dice`` and ``dice`` are knots of a line that never falls, ``volumes_ml`` the smallest and the largest
    usual volume.
    """

    cases: int
    present: int
    expected_dice: tuple[float, ...] = Field(min_length=1)
    dice: tuple[float, ...]
    usual_dice: float  # median of the estimates
    volumes_ml: tuple[PositiveFloat, PositiveFloat]
    correlation: float | None  # Spearman's, between expected and actual Dice

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.expected_dice) != len(self.dice):
            raise ValueError("the line from expected to actual Dice has other knots in x than in y")
        return self

    def estimate(self, expected: float) -> float:
        """Returns the estimated Dice of a mask, from its expected Dice.

        Below the lowest that held-back cases had, it goes to 0 in a straight line.
        """
        return float(np.interp(expected, (0.0, *self.expected_dice), (0.0, *self.dice)))

    def relative(self, ml: float) -> float:
        """Returns a volume as a multiple of the one in the middle between the smallest and the largest."""
        return ml / math.sqrt(self.volumes_ml[0] * self.volumes_ml[1])

    @property
    def always_there(self) -> bool:
        """Whether nearly all held-back cases have the label."""
        return self.present >= MOST * self.cases


class Check(Record):
    """How well the rules find bad cases, each case judged by rules that were learnt from others.

    ``worst`` are the tenth of the cases with the lowest mean Dice over their labels.
    """

    cases: int
    flagged: int
    worst: int
    worst_flagged: int

    def __str__(self) -> str:
        return (
            f"{self.flagged} of {self.cases} held-back cases would be flagged, among them {self.worst_flagged} of "
            f"the {self.worst} with the lowest Dice"
        )


class Review(Record):
    """The rules by label, and ``largest_shortfall``.

    That is what the estimate of a case's worst label may lie below the usual one; nine of ten held-back cases stay
    within.
    """

    labels: dict[str, LabelReview]
    largest_shortfall: float
    check: Check | None = None

    def estimates(self, expected: Mapping[str, float]) -> dict[str, float]:
        """Returns the estimated Dice by label, of those that have a mask and are known from held-back cases."""
        return {name: self.labels[name].estimate(dice) for name, dice in expected.items() if name in self.labels}

    def shortfalls(self, expected: Mapping[str, float]) -> dict[str, float]:
        """Returns what the estimates lie below the usual ones, by label."""
        return {name: self.labels[name].usual_dice - dice for name, dice in self.estimates(expected).items()}

    def reasons(self, expected: Mapping[str, float], volumes_ml: Mapping[str, float]) -> list[str]:
        """Returns why a case should be looked at, in words; none where all is as usual.

        Args:
            expected: Expected Dice by label.
            volumes_ml: Volumes by label.
        """
        return [
            *(
                f"{name}: estimated Dice {self.estimates(expected)[name]:.2f}, {shortfall:.2f} below the usual; in "
                f"nine of ten held-back cases no label is more than {self.largest_shortfall:.2f} below"
                for name, shortfall in self.shortfalls(expected).items()
                if shortfall > self.largest_shortfall
            ),
            *(
                f"{name}: not found, and {label.present} of {label.cases} held-back cases have it"
                for name, label in self.labels.items()
                if label.always_there and volumes_ml.get(name) == 0
            ),
            *(
                f"{name}: {_times(label.relative(volumes_ml[name]))} as large as usual; up to "
                f"{_times(label.relative(label.volumes_ml[1]))} as large or small is ordinary"
                for name, label in self.labels.items()
                if volumes_ml.get(name) and not label.volumes_ml[0] <= volumes_ml[name] <= label.volumes_ml[1]
            ),
        ]


class Judgement(NamedTuple):
    """Whether a person should look at a case.

    Attributes:
        estimated_dice: The Dice that a reference would give, by label; empty where the model has no rules.
        review: Whether a person should look; None where nothing is odd and the model has no rules.
        review_reasons: Why, in words.
    """

    estimated_dice: dict[str, float]
    review: bool | None
    review_reasons: tuple[str, ...]


def judge(
    rules: Review | None,
    expected: Mapping[str, float],
    volumes_ml: Mapping[str, float],
    oddities: Iterable[str],
    changes: Iterable[RuleEffect],
) -> Judgement:
    """Returns whether a person should look at a case.

    Args:
        rules: The model's; None where too few cases were held back from training.
        expected: Expected Dice by label.
        volumes_ml: Volumes by label.
        oddities: What is odd about the image, in words.
        changes: What postprocessing changed.
    """
    reasons = (*oddities, *_removed_surely(changes))
    if rules is None:
        return Judgement({}, True if reasons else None, reasons)
    reasons = (*reasons, *rules.reasons(expected, volumes_ml))
    return Judgement(rules.estimates(expected), bool(reasons), reasons)


def _removed_surely(changes: Iterable[RuleEffect]) -> Iterator[str]:
    """Yields of what postprocessing changed, in words, what it removed though the network was sure of it."""
    return (str(change) for change in changes if (change.mean_probability or 0.0) >= SURE)


def learn_review(held: Sequence[HeldBack]) -> Review | None:
    """Returns the rules, and how well they do; None where too few cases were held back."""
    cases = _grouped(held, "case_id")
    rules = _learn(cases.values())
    return None if rules is None else rules.model_copy(update={"check": _check(cases)})


def _grouped(held: Iterable[HeldBack], by: str) -> dict[str, list[HeldBack]]:
    groups: dict[str, list[HeldBack]] = {}
    for each in held:
        groups.setdefault(getattr(each, by), []).append(each)
    return groups


def _learn(cases: Iterable[Sequence[HeldBack]]) -> Review | None:
    cases = list(cases)
    by_label = _grouped((each for case in cases for each in case), "label")
    learnt = {name: _learn_label(held) for name, held in by_label.items()}
    rules = Review(labels={name: label for name, label in learnt.items() if label is not None}, largest_shortfall=0.0)
    if not rules.labels:
        return None
    shortfalls = [max(rules.shortfalls(_expected(case)).values(), default=0.0) for case in cases]
    return rules.model_copy(update={"largest_shortfall": float(np.quantile(shortfalls, MOST, method="higher"))})


def _expected(case: Iterable[HeldBack]) -> dict[str, float]:
    return {each.label: each.expected_dice for each in case if each.expected_dice is not None}


def _learn_label(held: Sequence[HeldBack]) -> LabelReview | None:
    from scipy.optimize import isotonic_regression  # takes long to import, and prediction does not learn
    from scipy.stats import spearmanr

    pairs = sorted((e.expected_dice, e.dice) for e in held if e.expected_dice is not None and e.dice is not None)
    volumes = [each.reference_ml for each in held if each.reference_ml > 0]
    if min(len(pairs), len(volumes)) < LEAST_CASES:
        return None
    expected, dice = np.array(pairs).T
    rising = isotonic_regression(dice)
    ends = sorted({int(i) for a, b in pairwise(rising.blocks) for i in (a, b - 1)})
    correlation = float(spearmanr(expected, dice).statistic) if np.ptp(expected) and np.ptp(dice) else None
    return LabelReview(
        cases=len(held),
        present=len(volumes),
        expected_dice=tuple(expected[ends].tolist()),
        dice=tuple(rising.x[ends].tolist()),
        usual_dice=float(np.median(rising.x)),
        volumes_ml=_usual(volumes),
        correlation=correlation,
    )


def _times(factor: float) -> str:
    return f"{factor:.0f} times" if factor >= 10 else f"{factor:.2g} times"


def _usual(volumes: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(np.log(volumes), (0.25, 0.75))
    beyond = max(FENCE * (high - low), np.log(LEAST_FACTOR))
    return float(np.exp(low - beyond)), float(np.exp(high + beyond))


def _check(cases: Mapping[str, Sequence[HeldBack]]) -> Check | None:
    """Returns how well the rules find bad cases; None where the rest of the cases are too few to learn from."""
    flagged: set[str] = set()
    for part in range(min(PARTS, len(cases))):
        judged = list(cases)[part::PARTS]
        rules = _learn(case for case_id, case in cases.items() if case_id not in judged)
        if rules is None:
            return None
        flagged |= {case_id for case_id in judged if _reasons(rules, cases[case_id])}
    worst = set(sorted(cases, key=lambda case_id: _mean_dice(cases[case_id]))[: max(1, round(len(cases) / 10))])
    return Check(cases=len(cases), flagged=len(flagged), worst=len(worst), worst_flagged=len(flagged & worst))


def _reasons(rules: Review, case: Sequence[HeldBack]) -> list[str]:
    return rules.reasons(_expected(case), {each.label: each.predicted_ml for each in case})


def _mean_dice(case: Sequence[HeldBack]) -> float:
    """Returns the mean Dice over the labels that are in either mask; 1 where none is, and rightly so."""
    return float(np.mean([each.dice for each in case if each.dice is not None] or [1.0]))
