"""Named segments on a grid, as DICOM SEG, RTSTRUCT and ``.seg.nrrd`` hold them.

Segments may overlap, so they lie in layers: label maps in which no two segments overlap. Most segmentations have one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np

from medseg.labels import Labels
from medseg.progress import listed
from medseg.structures import COLOURS, Colour, Label, Region
from medseg.terminology import Code
from medseg.volume import Array, Geometry, Shape3


@dataclass(frozen=True)
class SegmentHeader:
    """What a file says of a segment: all but its voxels.

    Attributes:
        number: SegmentNumber, ROINumber, or the label value of a ``.seg.nrrd``.
        name: Unique in its file, and not empty.
        colour: (red, green, blue), from 0 to 255; None where the file has none.
        category: Code of what kind of thing it is, such as an anatomical structure.
        type: Code of what it is, such as the liver.
        modifier: Code of what the type leaves open, such as the side.
    """

    number: int
    name: str
    colour: Colour | None = field(default=None, kw_only=True)
    category: Code | None = field(default=None, kw_only=True)
    type: Code | None = field(default=None, kw_only=True)
    modifier: Code | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Segment(SegmentHeader):
    """A segment that has been read: the voxels of ``layers[layer]`` that have the value ``value``.

    Attributes:
        layer: The number of its layer, from 0.
        value: The value of its voxels there.
    """

    layer: int
    value: int

    @classmethod
    def of(cls, header: SegmentHeader, layer: int, value: int) -> "Segment":
        """Returns the segment of a header, with the place of its voxels.

        Args:
            header: What the file says of it.
            layer: The number of its layer, from 0.
            value: The value of its voxels there.
        """
        return cls(**vars(header), layer=layer, value=value)


@dataclass(frozen=True)
class Segmentation:
    """Named segments on a grid.

    Attributes:
        geometry: The grid, in RAS mm.
        layers: Label maps ``(x, y, z)``. Segments that overlap lie in different ones.
        segments: What the values of the layers stand for.
        notes: What was decided on reading, and what was left out.

    Example:
        >>> import numpy as np
        >>> from medseg.io import Geometry, Segment, Segmentation, SegmentHeader
        >>> grid, layer = Geometry((4, 5, 6), np.eye(4)), np.zeros((4, 5, 6), np.uint8)
        >>> layer[1:3] = 1
        >>> liver = Segment.of(SegmentHeader(number=1, name="liver"), layer=0, value=1)
        >>> drawn = Segmentation(grid, (layer,), (liver,))
        >>> int(drawn.mask(liver).sum()), int(drawn.label_map({"liver": 7}).max())
        (60, 7)
    """

    geometry: Geometry
    layers: tuple[Array, ...]
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()

    def mask(self, segment: Segment) -> Array:
        """Returns the mask of a segment, boolean ``(x, y, z)``."""
        mask: Array = self.layers[segment.layer] == segment.value
        return mask

    def label_map(self, values: Mapping[str, int]) -> Array:
        """Returns one label map of some segments; the others become background.

        Where segments overlap the one with fewer voxels lies on top: a tumour in its organ, a GTV in its PTV.

        Args:
            values: The label value of each segment that is wanted, by its name.

        Returns:
            ``(x, y, z)``, int32.
        """
        chosen = self._by_size([segment for segment in self.segments if segment.name in values])
        top = np.zeros_like(self.layers[0], dtype=np.uint16)
        for i, layer in enumerate(self.layers):
            ranks = np.zeros(int(layer.max()) + 1, dtype=top.dtype)
            for rank, segment in enumerate(chosen, start=1):
                if segment.layer == i and segment.value < len(ranks):
                    ranks[segment.value] = rank
            np.maximum(top, ranks[layer], out=top)
        result: Array = np.array([0, *(values[segment.name] for segment in chosen)], dtype=np.int32)[top]
        return result

    def _by_size(self, segments: list[Segment]) -> list[Segment]:
        """Returns segments in order of their voxels, those with the most first."""
        if len(self.layers) == 1:  # nothing overlaps
            return segments
        counts = [value_counts(layer) for layer in self.layers]

        def size(segment: Segment) -> int:
            of_layer = counts[segment.layer]
            return int(of_layer[segment.value]) if segment.value < len(of_layer) else 0

        return sorted(segments, key=size, reverse=True)


class Layers:
    """Label maps that are filled segment by segment: each goes into the first one where it overlaps none before it.

    Args:
        shape: ``(x, y, z)`` of each layer.
        n_segments: How many are to come; it decides on the integer type.

    Attributes:
        arrays: The layers so far.
    """

    def __init__(self, shape: Shape3, n_segments: int) -> None:
        self.arrays: list[Array] = [np.zeros(shape, dtype=np.uint8 if n_segments < 256 else np.uint16)]

    def add(self, value: int, mask: Array, box: tuple[slice, slice, slice]) -> int:
        """Sets a value where a mask is true.

        Args:
            value: Of the segment.
            mask: Boolean; it lies at ``box``.
            box: Of the layer.

        Returns:
            The number of the layer.
        """
        for i, layer in enumerate(self.arrays):
            if not layer[box][mask].any():
                layer[box][mask] = value
                return i
        self.arrays.append(np.zeros_like(self.arrays[0]))
        self.arrays[-1][box][mask] = value
        return len(self.arrays) - 1


def with_unique_names(headers: Sequence[SegmentHeader], kind: str) -> tuple[SegmentHeader, ...]:
    """Returns headers whose names are unique and not empty, and whose numbers are unique, positive and of 31 bits.

    Files have two "GTV", nameless segments, and ROIs that are numbered from 0.

    Args:
        headers: As the file has them.
        kind: What a nameless one is called, with its number.
    """
    numbers = [header.number for header in headers]
    if len(set(numbers)) < len(numbers) or not all(0 < n < 2**31 for n in numbers):
        headers = [replace(header, number=i) for i, header in enumerate(headers, start=1)]
    wanted = [header.name.strip() or f"{kind} {header.number}" for header in headers]
    names: list[str] = []
    for name in wanted:
        others = (f"{name} {i}" for i in count(2))
        names.append(name if name not in names else next(o for o in others if o not in (*names, *wanted)))
    return tuple(replace(header, name=name) for header, name in zip(headers, names, strict=True))


def value_counts(layer: Array) -> Array:
    """Returns how often each value from 0 occurs in a label map, as one count for each value.

    It is counted slice by slice, as NumPy makes 64-bit integers of the values.
    """
    highest = int(layer.max())
    counts = np.zeros(highest + 1, dtype=np.int64)
    for plane in np.moveaxis(layer, -1, 0):
        counts += np.bincount(plane.ravel(order="K"), minlength=highest + 1)
    return counts


def some_of(names: Sequence[str]) -> str:
    """Returns names for a message: ``"'liver', 'spleen' and 3 more"``."""
    return listed(f"'{name}'" for name in names)


def with_regions(segmentation: Segmentation) -> tuple[Array, Labels]:
    """Returns a segmentation as one label map, without losing what overlaps.

    Segments that overlap others become regions, the others labels; both as the file describes them.

    Returns:
        A label map ``(x, y, z)`` with the segments' numbers, and a value more for each set of segments that share a
        voxel; and its labels.
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
            items.append(_part_of_regions(segment.number, [segment]))
        else:
            items.append(Label(value=segment.number, **_described(segment)))
    items += [_part_of_regions(value, of_set) for value, of_set in shared.items()]
    table = np.array(values, dtype=np.min_scalar_type(max(values)))
    return table[label_map], Labels(items=tuple(items), regions=tuple(regions))


def _sets(segmentation: Segmentation) -> tuple[Array, list[tuple[Segment, ...]]]:
    """Returns for each voxel ``(x, y, z)`` the number of its set of segments, and the sets."""
    segment_at = {(segment.layer, segment.value): segment for segment in segmentation.segments}
    foreground = np.logical_or.reduce([layer != 0 for layer in segmentation.layers])
    numbers = np.zeros(int(np.count_nonzero(foreground)), dtype=np.int64)
    sets: list[tuple[Segment, ...]] = [()]
    for i, layer in enumerate(segmentation.layers):
        values = layer[foreground].astype(np.int64)
        base = int(values.max(initial=0)) + 1
        found, numbers = np.unique(numbers * base + values, return_inverse=True)
        pairs = [(sets[number // base], segment_at.get((i, number % base))) for number in found.tolist()]
        sets = [(*before, segment) if segment else before for before, segment in pairs]
    label_map = np.zeros(foreground.shape, dtype=np.min_scalar_type(len(sets)))
    label_map[foreground] = numbers + 1
    return label_map, [(), *sets]


def _part_of_regions(value: int, segments: Sequence[Segment]) -> Label:
    """Returns the label of what is a part of regions, and no structure by itself."""
    name = "only " + " and ".join(segment.name for segment in segments)
    return Label(name=name, value=value, colour=COLOURS[0], alone=False)


def _described(segment: Segment) -> dict[str, Any]:
    """Returns name, colour and codes of a segment; without a colour in the file it gets one of ours."""
    colour = segment.colour or COLOURS[(segment.number - 1) % len(COLOURS)]
    codes = {"category": segment.category, "type": segment.type, "modifier": segment.modifier}
    return {"name": segment.name, "colour": colour, **codes}
