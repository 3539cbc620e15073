"""Which postprocessing helps: tried on cases that the network was not trained on, as nnU-Net does."""

from collections.abc import Callable, Collection, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import cc3d
import numpy as np

from medseg.labels import IGNORED
from medseg.postprocessing.components import Rule, box_around, changed
from medseg.volume import Array

# Held-back cases with a label below which nothing is chosen for it: what helps in two cases may be chance.
LEAST_CASES = 10
# What a rule has to gain of the mean Dice, or of the metric in its place; less is noise.
LEAST_GAIN = 0.001

MIN_VOLUMES_ML = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

# The part of the lesions of the references that a rule may take for specks, where lesions are to be spared.
SMALLEST = 0.05

NOTHING = (slice(0, 0),) * 3  # a box without voxels


class Held(NamedTuple):
    """A case that was not trained on: label maps ``(x, y, z)`` in network values.

    Voxels that the reference ignores, and labels that were not ``annotated`` (None: all were), count nothing.
    """

    predicted: Array
    reference: Array
    voxel_volume_ml: float
    annotated: Collection[str] | None = None


class Choice(NamedTuple):
    """A rule that was chosen, and what it does to the held-back cases."""

    rule: Rule
    gain: float  # of the label's mean metric
    better: int  # cases
    worse: int
    metric: str = "Dice"

    def __str__(self) -> str:
        return f"{self.rule} ({self.metric} {self.gain:+.4f}: {self.better} cases better, {self.worse} worse)"


class Objective(NamedTuple):
    """What a rule has to raise.

    Attributes:
        name: Of the metric.
        measure: Gives it of a mask and its reference, boolean ``(x, y, z)``.
        spares_lesions: Whether only rules count that leave components as large as nearly all of the references: where
            there are more specks than small lesions, any metric gains by removing both.
    """

    name: str
    measure: Callable[[Array, Array], float]
    spares_lesions: bool = False


def _dice(mask: Array, reference: Array) -> float:
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0


DICE = Objective("Dice", _dice)


def choose_rules(cases: Iterable[Held], names: Sequence[str], objective: Objective = DICE) -> list[Choice]:
    """Returns for each label the rule that gives the highest mean Dice, or another metric.

    It has to gain enough, and to make more cases better than worse. There is none where fewer than ``LEAST_CASES``
    cases were annotated with the label. A case that hasn't the label counts 1 where it isn't predicted, and 0 where it
    is.

    Args:
        cases: Held-back cases, predicted without rules.
        names: Of the labels, in the order of their network values.
        objective: The metric.
    """
    from scipy.ndimage import find_objects  # takes long to import

    rules = {name: _candidates(name, objective.spares_lesions) for name in names}
    values: dict[str, list[list[float]]] = {name: [] for name in names}  # of each case, by rule
    volumes_ml: dict[str, list[float]] = {name: [] for name in names}  # of the components that are to be spared
    for case in cases:
        predicted, reference = (find_objects(each, len(names)) for each in (case.predicted, case.reference))
        for i, name in enumerate(names):
            if case.annotated is not None and name not in case.annotated:
                continue
            box = box_around(predicted[i], reference[i]) or NOTHING
            part, wanted, known = case.predicted[box], case.reference[box] == i + 1, case.reference[box] != IGNORED
            tried = (changed(part, [i + 1], rule, case.voxel_volume_ml) for rule in rules[name])
            values[name].append([objective.measure(mask & known, wanted) for mask in tried])
            if objective.spares_lesions:
                sizes = np.bincount(cc3d.connected_components(wanted).ravel())[1:]
                volumes_ml[name] += (sizes * case.voxel_volume_ml).tolist()
    choices = []
    for name in names:
        if len(values[name]) >= LEAST_CASES:
            spared = np.quantile(volumes_ml[name] or [0.0], SMALLEST) if objective.spares_lesions else np.inf
            choices.append(_best(rules[name], values[name], float(spared)))
    return [choice._replace(metric=objective.name) for choice in choices if choice is not None]


def _candidates(name: str, spares_lesions: bool) -> list[Rule]:
    """Returns the rules to try: doing nothing comes first, and of equally good ones the first is taken."""
    largest = [] if spares_lesions else [{"largest_component": True}]
    steps = [{}, *largest, *({"min_volume_ml": ml} for ml in MIN_VOLUMES_ML)]
    return [Rule(label=name, fill_holes=fill, **step) for fill in (False, True) for step in steps]  # type: ignore[arg-type]


def _best(rules: Sequence[Rule], values: Sequence[Sequence[float]], spared_ml: float) -> Choice | None:
    """Returns the best rule that removes no component of so many ml; None where doing nothing is as good."""
    before = [of_case[0] for of_case in values]
    means = [fmean(of_rule) for of_rule in zip(*values, strict=True)]
    best = max((i for i, rule in enumerate(rules) if rule.min_volume_ml <= spared_ml), key=means.__getitem__)
    after = [of_case[best] for of_case in values]
    better = sum(b > a for a, b in zip(before, after, strict=True))
    worse = sum(b < a for a, b in zip(before, after, strict=True))
    gain = means[best] - means[0]
    rule = rules[best].model_copy(update={"chosen_on": len(values)})
    return Choice(rule, gain, better, worse) if gain >= LEAST_GAIN and better > worse else None
