"""Which postprocessing helps: tried on cases that the network was not trained on, as nnU-Net does."""

from collections.abc import Callable, Collection, Iterable, Sequence
from math import prod
from statistics import fmean
from typing import NamedTuple

import cc3d
import numpy as np

from medseg.labels import IGNORED
from medseg.postprocessing.components import Rule, box_around, changed
from medseg.volume import Array, Spacing3

# Held-back cases with a label below which nothing is chosen for it: what helps in two cases may be chance.
LEAST_CASES = 10
# What a rule has to gain of the mean Dice, or of the metric in its place; less is noise.
LEAST_GAIN = 0.001

MIN_VOLUMES_ML = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

# Where lesions are to be spared, a rule may remove what is smaller than so many of those of the references.
SPARED = 0.95

MM3_IN_ML = 1000.0

NOTHING = (slice(0, 0),) * 3  # a box without voxels


class Held(NamedTuple):
    """A case that was not trained on: label maps ``(x, y, z)`` in network values.

    Voxels that the reference ignores, and labels that were not ``annotated`` (None: all were), count nothing.
    ``spacing`` is in mm.
    """

    predicted: Array
    reference: Array
    spacing: Spacing3
    annotated: Collection[str] | None = None

    @property
    def voxel_volume_ml(self) -> float:
        """The volume of a voxel."""
        return prod(self.spacing) / MM3_IN_ML


class Choice(NamedTuple):
    """A rule that was chosen, and what it does to the held-back cases."""

    rule: Rule
    gain: float  # of the label's mean metric
    better: int  # cases
    worse: int
    metric: str = "Dice"

    def __str__(self) -> str:
        return f"{self.rule} ({self.metric} {self.gain:+.4f}: {self.better} cases better, {self.worse} worse)"


def _dice(mask: Array, reference: Array, spacing: Spacing3) -> float:
    """Returns the Dice of two masks ``(x, y, z)``; 1 where both are empty."""
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0


def choose_rules(
    cases: Iterable[Held],
    names: Sequence[str],
    measure: Callable[[Array, Array, Spacing3], float] = _dice,
    metric: str = "Dice",
    *,
    spare_lesions: bool = False,
) -> list[Choice]:
    """Returns for each label the rule that gives the highest mean Dice, or another metric.

    It has to gain enough, and to make more cases better than worse. There is none where fewer than ``LEAST_CASES``
    cases were annotated with the label. A case that hasn't the label counts 1 where it isn't predicted, and 0 where it
    is.

    Args:
        cases: Held-back cases, predicted without rules.
        names: Of the labels, in the order of their network values.
        measure: Gives the metric of a mask and its reference ``(x, y, z)``, and their spacing in mm.
        metric: What it is called.
        spare_lesions: Whether only rules are tried that leave components as large as nearly all of the references
            (``SPARED``): where there are more specks than small lesions, any metric gains by removing both.
    """
    from scipy.ndimage import find_objects  # takes long to import

    rules = {name: _candidates(name) for name in names}
    values: dict[str, list[list[float]]] = {name: [] for name in names}  # of each case, by rule
    volumes: dict[str, list[float]] = {name: [] for name in names}  # of the components of references
    for case in cases:
        predicted, reference = (find_objects(each, len(names)) for each in (case.predicted, case.reference))
        for i, name in enumerate(names):
            if case.annotated is not None and name not in case.annotated:
                continue
            box = box_around(predicted[i], reference[i]) or NOTHING
            part, wanted, known = case.predicted[box], case.reference[box] == i + 1, case.reference[box] != IGNORED
            tried = (changed(part, [i + 1], rule, case.voxel_volume_ml) for rule in rules[name])
            if spare_lesions:
                sizes = np.bincount(cc3d.connected_components(wanted).ravel())[1:]
                volumes[name] += (sizes * case.voxel_volume_ml).tolist()
            values[name].append([measure(mask & known, wanted, case.spacing) for mask in tried])
    if spare_lesions:
        for name in names:
            kept = [i for i, rule in enumerate(rules[name]) if _spares(rule, volumes[name])]
            rules[name] = [rules[name][i] for i in kept]
            values[name] = [[of_case[i] for i in kept] for of_case in values[name]]
    choices = (_best(rules[name], values[name]) for name in names if len(values[name]) >= LEAST_CASES)
    return [choice._replace(metric=metric) for choice in choices if choice is not None]


def _candidates(name: str) -> list[Rule]:
    """Returns the rules to try: doing nothing comes first, and of equally good ones the first is taken."""
    steps = [{}, {"largest_component": True}, *({"min_volume_ml": ml} for ml in MIN_VOLUMES_ML)]
    return [Rule(label=name, fill_holes=fill, **step) for fill in (False, True) for step in steps]  # type: ignore[arg-type]


def _spares(rule: Rule, volumes_ml: Sequence[float]) -> bool:
    """Says whether a rule leaves components as large as nearly all of the references."""
    if rule.largest_component or not volumes_ml:
        return not (rule.largest_component or rule.min_volume_ml)
    return bool(rule.min_volume_ml <= np.quantile(volumes_ml, 1 - SPARED))


def _best(rules: Sequence[Rule], values: Sequence[Sequence[float]]) -> Choice | None:
    before = [of_case[0] for of_case in values]
    means = [fmean(of_rule) for of_rule in zip(*values, strict=True)]
    best = means.index(max(means))
    after = [of_case[best] for of_case in values]
    better = sum(b > a for a, b in zip(before, after, strict=True))
    worse = sum(b < a for a, b in zip(before, after, strict=True))
    gain = means[best] - means[0]
    rule = rules[best].model_copy(update={"chosen_on": len(values)})
    return Choice(rule, gain, better, worse) if gain >= LEAST_GAIN and better > worse else None
