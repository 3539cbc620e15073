"""Regions that are learnt as they are (nnU-Net's region-based training): which ones, and how they make a label map."""

from itertools import combinations
from typing import Literal

from medseg.errors import LabelError
from medseg.labels import Labels
from medseg.plan import LearntRegion
from medseg.progress import say

HOW_ELSE = (
    "say in dataset.json by 'regions_class_order' which value each structure writes, and prepare again, or learn the "
    "labels one by one: --set training.outputs=labels"
)


def regions_to_learn(labels: Labels, outputs: Literal["auto", "labels", "regions"]) -> tuple[LearntRegion, ...]:
    """Returns the regions that are learnt as they are; () where labels are learnt.

    Source: Isensee et al. 2021, doi:10.1007/978-3-030-72087-2_11.

    Args:
        labels: Labels and regions of the dataset.
        outputs: The setting ``training.outputs``. "auto": regions, where some make a label map.

    Raises:
        LabelError: Regions are wanted and there are none, or they make no label map, or their order cannot be.
    """
    if outputs == "labels" or (outputs == "auto" and not labels.regions):
        return ()
    if not labels.regions:
        raise LabelError("training.outputs=regions: the dataset names no regions; leave it out to learn the labels")
    try:
        return learnt_regions(labels)
    except LabelError as error:
        if outputs == "regions" or labels.region_order:
            raise
        say(f"Labels are learnt one by one, since their regions make no label map: {error}")
        return ()


def learnt_regions(labels: Labels) -> tuple[LearntRegion, ...]:
    """Returns all structures as regions, from the largest to the smallest, or in the order given.

    Each writes the one value that none of the later ones holds, or the one given.

    Args:
        labels: Labels and regions of the dataset.

    Raises:
        LabelError: There is no such order, or no such value.
    """
    unions = {name: frozenset(values) for name, values in labels.unions.items()}
    given = {name: labels.values.index(value) + 1 for name, value in labels.region_order}
    order = [name for name, _ in labels.region_order] or _by_inclusion(unions)
    if set(order) != set(unions):
        known = ", ".join(unions)
        raise LabelError(f"'regions_class_order' is of {', '.join(order)}, and the dataset has {known}; {HOW_ELSE}")
    regions = []
    for i, name in enumerate(order):
        value = given[name] if name in given else _left(name, unions, order[i + 1 :])
        regions.append(LearntRegion(name=name, values=tuple(sorted(unions[name])), value=value))
    _check(regions, labels)
    return tuple(regions)


def _by_inclusion(unions: dict[str, frozenset[int]]) -> list[str]:
    for one, other in combinations(unions, 2):
        if unions[one] & unions[other] and not (unions[one] <= unions[other] or unions[other] <= unions[one]):
            raise LabelError(f"'{one}' and '{other}' overlap, and neither holds the other; {HOW_ELSE}")
    return sorted(unions, key=lambda name: -len(unions[name]))


def _left(name: str, unions: dict[str, frozenset[int]], later: list[str]) -> int:
    """Returns the value in a structure that none of the later ones holds."""
    left = unions[name].difference(*(unions[each] for each in later))
    if len(left) != 1:
        how_many = f"{len(left)} labels are" if left else "no label is"
        raise LabelError(f"{how_many} left of '{name}' when what lies in it is taken away, and not one; {HOW_ELSE}")
    return next(iter(left))


def _check(regions: list[LearntRegion], labels: Labels) -> None:
    """Checks the order of regions.

    Raises:
        LabelError: A value isn't in its structure, or is written by two.
    """
    for region in regions:
        if region.value not in region.values:
            value = labels.values[region.value - 1]
            raise LabelError(f"'regions_class_order' has '{region.name}' write {value}, which is not in it; {HOW_ELSE}")
    for one, other in combinations(regions, 2):
        if one.value == other.value:
            value = labels.values[one.value - 1]
            raise LabelError(
                f"'regions_class_order' has both '{one.name}' and '{other.name}' write {value}; {HOW_ELSE}"
            )
