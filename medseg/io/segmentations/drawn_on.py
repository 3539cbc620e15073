"""Whether a DICOM segmentation was drawn on an image series, by geometry: UIDs of slices are often lost on the way."""

from collections.abc import Callable

import numpy as np

from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.io.dicom.series import source_planes
from medseg.io.dicom.slices import Slices
from medseg.io.dicom.stack import PLACE_TOLERANCE
from medseg.io.dicom_seg.reader import dicom_seg_planes
from medseg.io.rtstruct.reader import rtstruct_contours
from medseg.io.source import ImageSource


def lies_on(segmentation: ImageSource, image: ImageSource) -> bool:
    """Whether the planes of all contours, or of all frames, are slices of the series, and lie in its extent.

    Raises ``SourceError`` for a file that cannot be read.
    """
    slices = Slices(tuple(source_planes(image)))
    return CHECKS[segmentation.kind](segmentation, slices)


def _frames_lie_on(segmentation: ImageSource, slices: Slices) -> bool:
    return slices.numbers_of(dicom_seg_planes(segmentation.path)) is not None


def _contours_lie_on(segmentation: ImageSource, slices: Slices) -> bool:
    """Contours may reach a pixel beyond the edge, and lie a little off their plane."""
    contours = rtstruct_contours(segmentation.path)
    if not contours:
        return False
    points = np.concatenate(contours)
    column, row, number = slices.index(points).T
    columns, rows, _ = slices.shape
    inside = (column >= -1) & (column <= columns) & (row >= -1) & (row <= rows) & (number >= 0)
    heights = points @ LPS_TO_RAS[:3, :3] @ slices.planes[0].normal
    off_plane = np.abs(heights - slices.heights[number.astype(int)])
    return bool(inside.all() and off_plane.max() <= PLACE_TOLERANCE * slices.usual_distance)


CHECKS: dict[str, Callable[[ImageSource, Slices], bool]] = {
    "dicom_seg": _frames_lie_on,
    "rtstruct": _contours_lie_on,
}
