"""Named segments on a grid, as DICOM SEG, RTSTRUCT and ``.seg.nrrd`` hold them.

Segments may overlap, so they lie in layers: label maps in which no two segments overlap. Most segmentations have one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medseg.labels import Code, Colour
from medseg.volume import Array, Geometry


@dataclass(frozen=True)
class Segment:
    """One structure: the voxels of ``layers[layer]`` that have the value ``value``."""

    number: int  # SegmentNumber, ROINumber, or the label value of a .seg.nrrd
    name: str
    layer: int
    value: int
    colour: Colour | None = None
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None


@dataclass(frozen=True)
class Segmentation:
    """``layers``: label maps (x, y, z) on ``geometry``; ``segments``: what their values stand for."""

    geometry: Geometry
    layers: tuple[Array, ...]
    segments: tuple[Segment, ...]

    def mask(self, segment: Segment) -> Array:
        """Boolean (x, y, z)."""
        mask: Array = self.layers[segment.layer] == segment.value
        return mask

    def label_map(self, values: Mapping[str, int]) -> Array:
        """One label map (x, y, z) of ``values`` by segment name; other segments become background.

        Where segments overlap the one with fewer voxels lies on top: a tumour in its organ, a GTV in its PTV.
        """
        chosen = [(segment, self.mask(segment)) for segment in self.segments if segment.name in values]
        chosen.sort(key=lambda pair: -int(pair[1].sum()))
        result = np.zeros(self.geometry.shape, dtype=np.int32)
        for segment, mask in chosen:
            result[mask] = values[segment.name]
        return result
