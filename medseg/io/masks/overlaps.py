"""Segments of a file, which may overlap, as what is written: a label map with labels and regions."""

from typing import Any

import numpy as np

from medseg.io.segmentations.segmentation import Segment, Segmentation
from medseg.labels import COLOURS, Label, Labels, Region
from medseg.volume import Array

Segments = tuple[Segment, ...]


def with_regions(segmentation: Segmentation) -> tuple[Array, Labels]:
    """A label map (x, y, z) with the segments' numbers, and a value more for each set of segments that share a voxel.

    Segments that overlap others are regions, the others labels; both as the file describes them. Nothing is lost.
    """
    label_map, sets = _sets(segmentation)
    last = max(segment.number for segment in segmentation.segments)
    shared = {last + i: of_set for i, of_set in enumerate((s for s in sets if len(s) > 1), start=1)}
    value_of = {of_set: value for value, of_set in shared.items()}
    values = [value_of[s] if len(s) > 1 else s[0].number if s else 0 for s in sets]
    items, regions = [], []
    for segment in segmentation.segments:
        overlaps = [value for value, of_set in shared.items() if segment in of_set]
        if overlaps:
            regions.append(Region(values=(segment.number, *overlaps), **_described(segment)))
            items.append(_part(segment.number, [segment]))
        else:
            items.append(Label(value=segment.number, **_described(segment)))
    items += [_part(value, of_set) for value, of_set in shared.items()]
    table = np.array(values, dtype=np.min_scalar_type(max(values)))
    return table[label_map], Labels(items=tuple(items), regions=tuple(regions))


def _sets(segmentation: Segmentation) -> tuple[Array, list[Segments]]:
    """For each voxel (x, y, z) the number of its set of segments, and the sets."""
    segment_at = {(segment.layer, segment.value): segment for segment in segmentation.segments}
    foreground = np.logical_or.reduce([layer != 0 for layer in segmentation.layers])
    numbers = np.zeros(int(np.count_nonzero(foreground)), dtype=np.int64)
    sets: list[Segments] = [()]
    for i, layer in enumerate(segmentation.layers):
        values = layer[foreground].astype(np.int64)
        base = int(values.max(initial=0)) + 1
        found, numbers = np.unique(numbers * base + values, return_inverse=True)
        pairs = [(sets[number // base], segment_at.get((i, number % base))) for number in found.tolist()]
        sets = [(*before, segment) if segment else before for before, segment in pairs]
    label_map = np.zeros(foreground.shape, dtype=np.min_scalar_type(len(sets)))
    label_map[foreground] = numbers + 1
    return label_map, [(), *sets]


def _part(value: int, segments: Segments | list[Segment]) -> Label:
    """Of regions, no structure by itself."""
    name = "only " + " and ".join(segment.name for segment in segments)
    return Label(name=name, value=value, colour=COLOURS[0], alone=False)


def _described(segment: Segment) -> dict[str, Any]:
    """Without a colour in the file it gets one of ours."""
    colour = segment.colour or COLOURS[(segment.number - 1) % len(COLOURS)]
    codes = {"category": segment.category, "type": segment.type, "modifier": segment.modifier}
    return {"name": segment.name, "colour": colour, **codes}
