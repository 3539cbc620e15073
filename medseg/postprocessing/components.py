"""What is done with the label map of a network: holes filled, all but the largest component removed, or small ones.

Labels are taken one by one, in one pass over the box that holds each.
"""

from collections.abc import Sequence

import cc3d
import numpy as np
from pydantic import NonNegativeFloat
from scipy.ndimage import binary_fill_holes, find_objects

from medseg.records import Record
from medseg.volume import Array


class Rule(Record):
    """For the mask of one label; voxels that are removed become background, and only background is filled."""

    label: str
    fill_holes: bool = False
    largest_component: bool = False
    min_volume_ml: NonNegativeFloat = 0.0  # of a component

    def __str__(self) -> str:
        steps = ["holes filled"] * self.fill_holes + ["the largest component only"] * self.largest_component
        if self.min_volume_ml:
            steps.append(f"no component below {self.min_volume_ml:.3g} ml")
        return f"{self.label}: {', '.join(steps)}"


def postprocess(label_map: Array, rules: Sequence[Rule], names: Sequence[str], voxel_volume_ml: float) -> None:
    """Changes ``label_map`` (x, y, z), in which ``i + 1`` stands for ``names[i]``. Components are of voxels that touch
    at a face, an edge or a corner; holes are of voxels that touch at faces, enclosed in three dimensions."""
    boxes = find_objects(label_map, max_label=len(names)) if rules else []
    for rule in rules:
        label = names.index(rule.label) + 1
        box = boxes[label - 1]
        if box is None:
            continue
        part = label_map[box]
        kept = changed(part, label, rule, voxel_volume_ml)
        part[part == label] = 0
        part[kept] = label


def changed(label_map: Array, label: int, rule: Rule, voxel_volume_ml: float) -> Array:
    """The mask (x, y, z) of the label as the rule leaves it; other labels in its holes stay what they are."""
    mask: Array = label_map == label
    if rule.largest_component:
        mask = cc3d.largest_k(mask, k=1, connectivity=26) > 0
    elif rule.min_volume_ml:
        threshold = int(np.ceil(rule.min_volume_ml / voxel_volume_ml - 1e-6))
        mask = cc3d.dust(mask, threshold=threshold, connectivity=26) > 0
    if rule.fill_holes:
        mask = binary_fill_holes(mask) & (mask | (label_map == 0))
    return mask
