"""RT structure sets (RTSTRUCT; PS3.3, A.19) through pydicom: named contours, filled on the grid of an image.

``contours`` has the rules of filling.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, config, dcmread

from medseg.errors import GeometryError, SourceError, reason_of
from medseg.io.dicom.geometry import LPS_TO_RAS, Plane, Vector
from medseg.io.dicom.objects import code_in
from medseg.io.segmentations.contours import NOTHING, Filled, fill, outline_of
from medseg.io.segmentations.segmentation import Layers, Segment, Segmentation, SegmentHeader, settled, some_of
from medseg.labels import Colour
from medseg.volume import Geometry

KEYWORDS = [
    "SOPClassUID", "SpecificCharacterSet", "StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence",
]  # fmt: skip

# Geometric types that enclose something (PS3.3, C.8.8.6.3); points and open lines do not.
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(path: Path, grid: Geometry | None = None, planes: Sequence[Plane] = ()) -> Segmentation:
    """Fills the contours on ``grid``: a voxel is in an ROI when its centre is.

    ``planes`` are the true slices of the image that ``grid`` was read from, where it is DICOM. Raises ``SourceError``
    for a damaged file and without a grid, ``GeometryError`` for contours that are oblique to the grid, and when all
    lie outside of it.
    """
    if grid is None:
        raise SourceError(f"{path}: contours have no grid of their own; read it with its image (--like IMAGE)")
    with config.disable_value_validation():
        header = _read(path)
        described = _described(header, path)
        contours, left_out = _contours(header, path)
    layers = Layers(grid.shape, len(described))
    notes = defaultdict(list)  # the same note about several ROIs is one note
    segments = []
    is_outside = True
    for value, (number, roi) in enumerate(described, start=1):
        found = _filled(contours[number], roi.name, grid, planes, path)
        segments.append(Segment.of(roi, layers.add(value, found.mask, found.box), value))
        is_outside &= found.is_outside
        for remark in (*left_out[number], *found.remarks):
            notes[remark].append(roi.name)
    if is_outside and any(contours.values()):
        raise GeometryError(f"{path}: all contours lie outside of the image; were they drawn on this one?")
    lines = tuple(f"{some_of(names)}: {note}" for note, names in notes.items())
    return Segmentation(grid, tuple(layers.arrays), tuple(segments), lines)


def rtstruct_headers(path: Path) -> tuple[SegmentHeader, ...]:
    """Numbers, names, colours and codes of the ROIs, without filling contours. Raises ``SourceError``."""
    with config.disable_value_validation():
        return tuple(roi for _, roi in _described(_read(path), path))


def rtstruct_contours(path: Path) -> list[Vector]:
    """All closed contours, (n, 3) in RAS mm. Raises ``SourceError``."""
    with config.disable_value_validation():
        contours, _ = _contours(_read(path), path)
    return [contour for of_roi in contours.values() for contour in of_roi]


def _read(path: Path) -> Dataset:
    try:
        header = dcmread(path, specific_tags=KEYWORDS)
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise SourceError(f"{path}: cannot be read as DICOM ({reason_of(error)}); export it again") from error
    if not header.get("StructureSetROISequence"):
        raise SourceError(f"{path}: names no ROIs; is it an RT structure set, and whole?")
    return header


def _described(header: Dataset, path: Path) -> list[tuple[int, SegmentHeader]]:
    """The ROIs, and what ROINumber the other sequences refer to each by."""
    try:
        numbers = [int(item.ROINumber) for item in header.StructureSetROISequence]
        contours = _by_number(header, "ROIContourSequence")
        observations = _by_number(header, "RTROIObservationsSequence")
        rois = [
            SegmentHeader(
                number,
                str(item.get("ROIName") or ""),
                colour=_colour(contours.get(number, Dataset()).get("ROIDisplayColor")),
                **_codes(observations.get(number, Dataset())),
            )
            for number, item in zip(numbers, header.StructureSetROISequence, strict=True)
        ]
    except Exception as error:  # pydicom raises many kinds on damaged values
        raise SourceError(f"{path}: its ROIs cannot be read ({reason_of(error)}); export it again") from error
    return list(zip(numbers, settled(rois, "ROI"), strict=True))


def _by_number(header: Dataset, sequence: str) -> dict[int, Dataset]:
    return {int(item.ReferencedROINumber): item for item in header.get(sequence) or ()}


def _colour(value: Any) -> Colour | None:
    if value is None or len(value) != 3:
        return None
    red, green, blue = (int(v) for v in value)
    return red, green, blue


def _codes(observation: Dataset) -> dict[str, Any]:
    """PS3.3, C.8.8.8; few write them."""
    identified = observation.get("RTROIIdentificationCodeSequence")
    return {
        "category": code_in(observation, "SegmentedPropertyCategoryCodeSequence"),
        "type": code_in(observation, "RTROIIdentificationCodeSequence"),
        "modifier": code_in(identified[0], "SegmentedPropertyTypeModifierCodeSequence") if identified else None,
    }


def _contours(header: Dataset, path: Path) -> tuple[dict[int, list[Vector]], dict[int, list[str]]]:
    """Closed contours (n, 3) in RAS mm by ROINumber, and what was left out."""
    contours: dict[int, list[Vector]] = defaultdict(list)
    left_out: dict[int, list[str]] = defaultdict(list)
    for number, item in _by_number(header, "ROIContourSequence").items():
        kinds: Counter[str] = Counter()
        for contour in item.get("ContourSequence") or ():
            kind = str(contour.get("ContourGeometricType") or CLOSED[0])
            points = _points(contour, path)
            if kind in CLOSED and len(points) >= 3:
                contours[number].append(points)
            else:
                kinds[f"{kind} of {len(points)} points" if kind in CLOSED else kind] += 1
        left_out[number] = [f"{count} {kind} left out, enclosing nothing" for kind, count in kinds.items()]
    return contours, left_out


def _filled(contours: Sequence[Vector], name: str, grid: Geometry, planes: Sequence[Plane], path: Path) -> Filled:
    """Raises ``GeometryError`` for oblique contours."""
    if not contours:
        return NOTHING
    outline = outline_of(contours, grid)
    if outline is None:
        raise GeometryError(
            f"{path}: contours of '{name}' are oblique to the image; read it with the series that they were drawn on"
        )
    return fill(outline, planes)


def _points(contour: Dataset, path: Path) -> Vector:
    """RAS mm (n, 3). Converted at once: pydicom would make an object of each number."""
    try:
        stored = contour.get_item("ContourData")
        value = stored.value if stored is not None else b""
        numbers = np.array(value.split(b"\\") if isinstance(value, bytes) and value else value or [], dtype=np.float64)
        return numbers.reshape(-1, 3) @ LPS_TO_RAS[:3, :3]
    except ValueError as error:
        raise SourceError(f"{path}: a contour's points cannot be read ({error}); export it again") from error
