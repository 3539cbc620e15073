"""What is done with the label map of a network: holes filled, all but the largest component removed, or small ones.

Labels are taken one by one, in one pass over the box that holds each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from medseg.records import Record
from medseg.volume import Array


class Rule(Record):
    """For the mask of one label; voxels that are removed become background, and only background is filled.

    With ``together`` it is for the mask of several labels: their components are those of all of them.
    """

    label: str
    together: tuple[str, ...] = ()  # other labels
    fill_holes: bool = False
    largest_component: bool = False
    min_volume_ml: NonNegativeFloat = 0.0  # of a component
    connectivity: Literal[6, 26] = 26  # of its voxels: at faces, or at edges and corners too
    on_model_grid: bool = False  # before the label map comes to the grid of the source, where labels are brought back
    chosen_on: PositiveInt | None = None  # how many held-back cases; None in models of older versions

    @property
    def steps(self) -> str:
        """What the rule does, in words."""
        steps = ["holes filled"] * self.fill_holes + ["the largest component only"] * self.largest_component
        if self.min_volume_ml:
            steps.append(f"no component below {self.min_volume_ml:.3g} ml")
        return ", ".join([*steps, *["on the model grid"] * self.on_model_grid])

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels that together are the mask which the rule changes."""
        return (self.label, *self.together)

    def __str__(self) -> str:
        return f"{' with '.join(self.labels)}: {self.steps}"


@dataclass(frozen=True)
class RuleEffect:
    """What a rule changed in a case.

    ``components`` of so many voxels were removed, and ``filled`` voxels were holes. Probabilities are what the network
    gave the removed voxels; None where they were not kept.
    """

    rule: Rule
    components: int
    voxels: int
    filled: int
    voxel_volume_ml: float
    mean_probability: float | None = None
    max_probability: float | None = None

    def __str__(self) -> str:
        done = []
        if self.voxels:
            components = "1 component" if self.components == 1 else f"{self.components} components"
            sure = ""
            if self.mean_probability is not None and self.max_probability is not None:
                sure = f", probability {self.mean_probability:.2f} on average, {self.max_probability:.2f} at most"
            done.append(f"removed {components} ({_amount(self.voxels, self.voxel_volume_ml)}{sure})")
        if self.filled:
            done.append(f"filled holes ({_amount(self.filled, self.voxel_volume_ml)})")
        return (
            f"postprocessing {' and '.join(done)} of {' with '.join(self.rule.labels)}, by its rule "
            f"'{self.rule.steps}'; --no-postprocessing leaves the mask as it is"
        )

    def as_json(self) -> dict[str, Any]:
        """Returns an entry of predictions.json."""
        return {
            "label": " with ".join(self.rule.labels),
            "rule": self.rule.steps,
            "components": self.components,
            "removed_voxels": self.voxels,
            "removed_ml": round(self.voxels * self.voxel_volume_ml, 4),
            "filled_voxels": self.filled,
            "mean_probability": self.mean_probability and round(self.mean_probability, 4),
            "max_probability": self.max_probability and round(self.max_probability, 4),
        }


Probabilities = Callable[[Array], Array]  # of voxels (n, 3), as indices of the label map


def postprocess(
    label_map: Array,
    rules: Sequence[Rule],
    names: Sequence[str],
    voxel_volume_ml: float,
    probabilities: Probabilities | None = None,
) -> tuple[RuleEffect, ...]:
    """Changes a label map by rules, and returns what was changed.

    Components are of voxels that touch at a face, an edge or a corner, or by their rule at faces only; holes are of
    voxels that touch at faces, enclosed in three dimensions.

    Args:
        label_map: ``(x, y, z)``, in which ``i + 1`` stands for ``names[i]``.
        rules: By label.
        names: Of the labels.
        voxel_volume_ml: The volume of a voxel.
        probabilities: Of what is removed; None: they are not known.
    """
    if not rules:
        return ()
    from scipy.ndimage import find_objects  # takes long to import

    boxes: Sequence[tuple[slice, ...] | None] = find_objects(label_map, max_label=len(names))
    changes = []
    for rule in rules:
        labels = [names.index(name) + 1 for name in rule.labels]
        box = box_around(*(boxes[label - 1] for label in labels))
        if box is None:
            continue
        part = label_map[box]
        before = _mask(part, labels)
        kept = changed(part, labels, rule, voxel_volume_ml)
        removed = before & ~kept
        if not np.array_equal(kept, before):
            indices = np.argwhere(removed) + [each.start for each in box]
            sure = probabilities(indices) if probabilities is not None and len(indices) else None
            changes.append(
                RuleEffect(
                    rule,
                    components=int(cc3d.connected_components(removed, connectivity=rule.connectivity).max()),
                    voxels=len(indices),
                    filled=int(np.count_nonzero(kept & ~before)),
                    voxel_volume_ml=voxel_volume_ml,
                    mean_probability=None if sure is None else float(sure.mean()),
                    max_probability=None if sure is None else float(sure.max()),
                )
            )
        part[removed] = 0
        part[kept & ~before] = labels[0]
    return tuple(changes)


def box_around(*boxes: tuple[slice, ...] | None) -> tuple[slice, ...] | None:
    """Returns the smallest box that holds boxes; None where there are none."""
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    return tuple(slice(min(a.start for a in axis), max(a.stop for a in axis)) for axis in zip(*there, strict=True))


def _amount(voxels: int, voxel_volume_ml: float) -> str:
    return f"{voxels} voxel{'s' * (voxels != 1)}, {voxels * voxel_volume_ml:.3g} ml"


def changed(label_map: Array, labels: Sequence[int], rule: Rule, voxel_volume_ml: float) -> Array:
    """Returns the mask ``(x, y, z)`` of labels as the rule leaves it; others in its holes stay what they are."""
    mask = _mask(label_map, labels)
    if rule.largest_component:
        mask = cc3d.largest_k(mask, k=1, connectivity=rule.connectivity) > 0
    elif rule.min_volume_ml:
        threshold = int(np.ceil(rule.min_volume_ml / voxel_volume_ml - 1e-6))
        mask = cc3d.dust(mask, threshold=threshold, connectivity=rule.connectivity) > 0
    if rule.fill_holes:
        from scipy.ndimage import binary_fill_holes  # takes long to import

        mask = binary_fill_holes(mask) & (mask | (label_map == 0))
    return mask


def _mask(label_map: Array, labels: Sequence[int]) -> Array:
    mask: Array = label_map == labels[0] if len(labels) == 1 else np.isin(label_map, labels)
    return mask
