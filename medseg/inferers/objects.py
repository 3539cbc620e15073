"""Objects of what a network says, grouped slab by slab while it says it: on the grid of the source, or the model's."""

from collections.abc import Iterator

import numpy as np
import torch

from medseg.decoding import FirstOutputs, decoding_of, or_on_processor
from medseg.errors import ModelError
from medseg.inferers.case_stream import CaseStream
from medseg.instances.grouping import Grouping, Objects
from medseg.instances.rule import GroupingRule
from medseg.plan import Plan
from medseg.scratch import scratch_array
from medseg.transforms.grids import label_map_on_grid, orthogonal_grid
from medseg.transforms.restoring import Restored, oriented
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry

USUAL_RULE = GroupingRule()


class ObjectObserver:
    """An observer of the stream of a case, which groups its voxels into objects on the grid of the source.

    Args:
        plan: Of a network that learnt objects.
        rule: Where objects begin; None: as usual.
        source: The grid of the source.
    """

    def __init__(self, plan: Plan, rule: GroupingRule | None, source: Geometry) -> None:
        self.decoding, self.values = _decoding_and_values(plan)
        self.source = source
        self.orthogonal = orthogonal_grid(source) if source.shear > SHEAR_TOLERANCE else source
        self.orientation = plan.grid.oriented(self.orthogonal).orientation
        self.shape = plan.grid.oriented(self.orthogonal).shape
        self.rule = rule or USUAL_RULE
        self.grouping: Grouping | None = None

    def __call__(self, part: Restored) -> None:
        """Takes a part of the source grid."""
        self.grouping = self.grouping or Grouping(self.shape, part.axis, self.rule)
        shape, place = list(self.shape), list(part.place)
        start, shape[part.axis] = place[part.axis].start, part.label_map.shape[part.axis]
        place[part.axis] = slice(None)
        values, score = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
        values[tuple(place)] = _only(part.label_map, self.values)
        inside = values[tuple(place)] > 0
        if inside.any():
            score[tuple(place)][inside] = self.decoding.depth(part.logits(inside)).cpu().numpy()
        self.grouping.take(values, score, start)

    def objects(self) -> Objects:
        """Returns the objects, on the grid of the source."""
        found = (self.grouping or Grouping(self.shape, 0, self.rule)).objects()
        # The axes of the source are those of the model grid in another order, or turned round: both ways are views.
        numbers: Array = scratch_array(found.object_map.dtype, self.orthogonal.shape)
        oriented(numbers, self.orthogonal, self.orientation)[:] = found.object_map
        if self.orthogonal is not self.source:
            numbers = label_map_on_grid(numbers, self.orthogonal, self.source)
        return Objects(numbers, found.values, found.voxels, found.peaks)


def predict_objects(stream: CaseStream, rule: GroupingRule = USUAL_RULE) -> tuple[Array, Objects]:
    """Returns the label map of a case on the model grid, in network values, and its objects.

    Args:
        stream: The windows of the case.
        rule: Where objects begin.
    """
    _, instances = _decoding_and_values(stream.predictor.plan)
    grouping, parts = Grouping(stream.layout.shape, stream.layout.axis, rule), []
    for values, depth, start in labels_and_depths(stream):
        parts.append(values)
        grouping.take(_only(values, instances), depth, start)
    return np.concatenate(parts, stream.layout.axis), grouping.objects()


def labels_and_depths(stream: CaseStream) -> Iterator[tuple[Array, Array, int]]:
    """Yields the network values of each slab, how deep its voxels lie in their objects, and where it begins."""
    decoding, _ = _decoding_and_values(stream.predictor.plan)

    def said(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return decoding.labels(logits, -1).cpu(), decoding.depth(logits.movedim(-1, 0)).cpu()

    for slab in stream.slabs():
        values, depth = or_on_processor(said, slab.fresh)
        yield values.numpy(), depth.numpy(), slab.start + slab.repeated


def _decoding_and_values(plan: Plan) -> tuple[FirstOutputs, tuple[int, ...]]:
    decoding = decoding_of(plan)
    if plan.objects is None or not isinstance(decoding, FirstOutputs):
        raise ModelError("the model has learnt no objects; name labels by 'instances' in dataset.json, and train again")
    return decoding, plan.objects.values


def _only(label_map: Array, values: tuple[int, ...]) -> Array:
    """Returns the label map with the background for all but these values."""
    return np.where(np.isin(label_map, values), label_map, 0).astype(np.uint8)
