"""Along which axes an image may be mirrored without turning one label into another."""

from medseg.labels import Labels
from medseg.plan import Plan


def mirror_axes(plan: Plan, labels: Labels) -> tuple[int, ...]:
    """Array axes (0 to 2) that the network sees, without left-right where labels come in left-right pairs, by their
    names or as measured."""
    guarded = "LR" if labels.left_right_pairs or plan.mirrored_pairs else ""
    return tuple(axis for axis in plan.spatial_axes if plan.grid.orientation[axis] not in guarded)
