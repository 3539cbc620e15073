"""Labels that are each other's mirror image, whatever their names: the left and the right of a pair; and the axes along
which images may be mirrored.

A network that has seen mirrored images cannot tell a pair apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from medseg.dataset.store import PreparedDataset
from medseg.labels import Labels
from medseg.plan import Plan
from medseg.setting_types import Mirror

# Fewer cases with both labels say nothing; more than these are not looked at.
LEAST_CASES, MOST_CASES = 3, 20
# Extents of a pair differ by less than this factor.
ALIKE = 1.5
EDGES = (10, 50, 90)  # percentiles of a label's voxels along an axis


@dataclass(frozen=True)
class LabelPlace:
    """Of a label in a case, in voxels (x, y, z): where its voxels begin, are, and end."""

    low: np.ndarray
    centre: np.ndarray
    high: np.ndarray

    @property
    def extent(self) -> np.ndarray:
        """The edges of the label's box: voxels along each axis."""
        extent: np.ndarray = self.high - self.low + 1
        return extent


def axes_to_mirror(plan: Plan, labels: Labels, wanted: Mirror, flat: bool) -> tuple[int, ...]:
    """Returns the array axes (0 to 2) along which training mirrors; never left-right where labels come in such pairs.

    Args:
        plan: Says which axes the network sees, and which pairs were measured.
        labels: Whose names tell of pairs.
        wanted: The setting ``augmentation.mirror``.
        flat: Whether the images are no volumes, and so have no sides.
    """
    paired = labels.left_right_pairs or plan.mirrored_pairs
    sides, others = "" if paired else "LR", "PAIS"
    letters = {"none": "", "left-right": sides, "all": sides + others, "auto": sides + others if flat else ""}[wanted]
    return tuple(axis for axis in plan.spatial_axes if plan.grid.orientation[axis] in letters)


def mirrored_pairs(dataset: PreparedDataset, case_ids: Sequence[str], orientation: str) -> tuple[tuple[str, str], ...]:
    """Returns pairs of labels that are each other's mirror image.

    They lie beside each other from left to right, always on the same sides, at the same height and depth, and are as
    large as each other.

    Args:
        dataset: A prepared dataset.
        case_ids: Cases to look at; of many, the first twenty.
        orientation: Of the model grid, as "RAS".
    """
    axis = next(i for i, letter in enumerate(orientation) if letter in "LR")
    cases = [_places(dataset, case_id) for case_id in case_ids[:MOST_CASES]]
    names = dataset.labels.names
    pairs = []
    for i, j in combinations(range(1, len(names) + 1), 2):
        sides = [_side(places[i], places[j], axis) for places in cases if i in places and j in places]
        if len(sides) >= LEAST_CASES and sides[0] != 0 and len(set(sides)) == 1:
            pairs.append((names[i - 1], names[j - 1]))
    return tuple(pairs)


def _places(dataset: PreparedDataset, case_id: str) -> dict[int, LabelPlace]:
    """Returns where each structure lies, by network value."""
    foreground = dataset.foreground(case_id)
    values = np.unique(foreground[:, 0])
    return {
        int(value): LabelPlace(*np.percentile(foreground[foreground[:, 0] == value, 1:], EDGES, axis=0))
        for value in values
    }


def _side(one: LabelPlace, other: LabelPlace, axis: int) -> int:
    """Returns 1 or -1 where one could be the mirror image of the other, by which of them comes first; else 0."""
    ratio = one.extent / other.extent
    if ratio.max() > ALIKE or ratio.min() < 1 / ALIKE:
        return 0
    apart = np.abs(one.centre - other.centre) / np.maximum(one.extent, other.extent)
    if np.delete(apart, axis).max() > 0.5:
        return 0
    if one.high[axis] < other.low[axis]:
        return 1
    return -1 if other.high[axis] < one.low[axis] else 0
