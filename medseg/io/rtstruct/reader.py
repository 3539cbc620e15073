"""RT structure sets (RTSTRUCT; PS3.3, A.19) through pydicom: named contours, filled on the grid of an image.

``contours`` has the rules of filling.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import config, dcmread

from medseg.errors import GeometryError, MedsegError, SourceError, reading, reason_of
from medseg.io.dicom.geometry import LPS_TO_RAS, SlicePlane, Vector
from medseg.io.dicom.header import Header
from medseg.io.dicom.segmentation_objects import code_in
from medseg.io.rtstruct.contours import NOTHING, Filled, fill, outline_of
from medseg.io.segmentation import Layers, Segment, Segmentation, SegmentHeader, some_of, with_unique_names
from medseg.io.structure_names import whole_name
from medseg.progress import counted
from medseg.structures import Colour
from medseg.volume import Geometry

KEYWORDS = [
    "SOPClassUID", "SpecificCharacterSet", "StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence",
]  # fmt: skip

# Geometric types that enclose something (PS3.3, C.8.8.6.3); points and open lines do not.
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(path: Path, grid: Geometry | None = None, planes: Sequence[SlicePlane] = ()) -> Segmentation:
    """Fills the contours of an RT structure set: a voxel is in an ROI when its centre is.

    Args:
        path: The file.
        grid: Where the contours are filled; they have no grid of their own.
        planes: The true slices of the image that ``grid`` was read from, where it is DICOM.

    Raises:
        SourceError: The file is damaged, or no grid is given.
        GeometryError: Contours are oblique to the grid, or all lie outside of it.
    """
    if grid is None:
        raise SourceError(f"{path}: contours have no grid of their own; read it with its image (--like IMAGE)")
    with config.disable_value_validation():
        header = _read(path)
        described = _described(header)
        contours, left_out = _contours(header)
        unnamed = sorted(contours.keys() - {number for number, _ in described})
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
    lines = [f"{some_of(names)}: {note}" for note, names in notes.items()]
    lines += [f"contours of ROI {number} left out: no ROI has that number" for number in unnamed]
    return Segmentation(grid, tuple(layers.arrays), tuple(segments), tuple(lines))


def rtstruct_headers(path: Path) -> tuple[SegmentHeader, ...]:
    """Reads numbers, names, colours and codes of the ROIs, without filling contours.

    Raises:
        SourceError: The file cannot be read.
    """
    with config.disable_value_validation():
        return tuple(roi for _, roi in _described(_read(path)))


def rtstruct_contours(path: Path) -> list[Vector]:
    """Reads all closed contours, ``(n, 3)`` each, in RAS mm.

    Raises:
        SourceError: The file cannot be read.
    """
    with config.disable_value_validation():
        contours, _ = _contours(_read(path))
    return [contour for of_roi in contours.values() for contour in of_roi]


def _read(path: Path) -> Header:
    with reading(path, "DICOM"):
        header = Header(path, dcmread(path, specific_tags=KEYWORDS))
    if not header.items("StructureSetROISequence"):
        raise SourceError(f"{path}: names no ROIs; is it an RT structure set, and whole?")
    return header


def _described(header: Header) -> list[tuple[int, SegmentHeader]]:
    """Returns the ROIs with the ROINumber that the other sequences refer to each by."""
    try:
        items = header.items("StructureSetROISequence")
        numbers = list(_once(header, "StructureSetROISequence", "ROINumber"))
        contours = _once(header, "ROIContourSequence", "ReferencedROINumber")
        observations = {  # an ROI may have several
            _number(item, "ReferencedROINumber"): item for item in header.items("RTROIObservationsSequence")
        }
        rois = [
            SegmentHeader(
                number,
                whole_name(item.text("ROIName"), item.text("ROIDescription")),
                colour=_colour(contours.get(number)),
                **_codes(observations.get(number)),
            )
            for number, item in zip(numbers, items, strict=True)
        ]
    except MedsegError:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged values
        raise SourceError(f"{header.path}: its ROIs cannot be read ({reason_of(error)}); export it again") from error
    return list(zip(numbers, with_unique_names(rois, "ROI"), strict=True))


def _once(header: Header, sequence: str, keyword: str) -> dict[int, Header]:
    """Returns the items of a sequence by their numbers of ROIs.

    Raises:
        SourceError: Two have the same one: programs differ in which of them counts.
    """
    found: dict[int, Header] = {}
    for item in header.items(sequence):
        number = _number(item, keyword)
        if number in found:
            raise SourceError(f"{header.path}: {sequence} has two items of ROI {number}; export it again")
        found[number] = item
    return found


def _number(item: Header, keyword: str) -> int:
    number = item.whole(keyword)
    if number is None:
        raise SourceError(f"{item.path}: has an ROI without {keyword}; export it again")
    return number


def _colour(contours: Header | None) -> Colour | None:
    try:
        value = contours.numbers("ROIDisplayColor", 3) if contours is not None else None
    except SourceError:
        return None
    if value is None:
        return None
    red, green, blue = (int(v) for v in value)
    return red, green, blue


def _codes(observation: Header | None) -> dict[str, Any]:
    """Returns the codes of an ROI (PS3.3, C.8.8.8); few write them."""
    if observation is None:
        return {}
    identified = observation.item("RTROIIdentificationCodeSequence")
    return {
        "category": code_in(observation, "SegmentedPropertyCategoryCodeSequence"),
        "type": code_in(observation, "RTROIIdentificationCodeSequence"),
        "modifier": code_in(identified, "SegmentedPropertyTypeModifierCodeSequence"),
    }


def _contours(header: Header) -> tuple[dict[int, list[Vector]], dict[int, list[str]]]:
    """Returns closed contours (n, 3) in RAS mm by ROINumber, and what was left out."""
    contours: dict[int, list[Vector]] = defaultdict(list)
    left_out: dict[int, list[str]] = defaultdict(list)
    for number, item in _once(header, "ROIContourSequence", "ReferencedROINumber").items():
        kinds: Counter[str] = Counter()
        seen, repeated = set[bytes](), 0
        for contour in item.items("ContourSequence"):
            kind = contour.text("ContourGeometricType") or CLOSED[0]
            points = _points(contour)
            if kind in CLOSED and len(points) >= 3 and points.tobytes() in seen:
                repeated += 1  # together they would enclose nothing
            elif kind in CLOSED and len(points) >= 3:
                seen.add(points.tobytes())
                contours[number].append(points)
            else:
                kinds[f"{kind} of {len(points)} points" if kind in CLOSED else kind] += 1
        left_out[number] = [f"{count} {kind} left out, enclosing nothing" for kind, count in kinds.items()]
        left_out[number] += [f"{counted(repeated, 'contour')} left out, repeating another one"] if repeated else []
    return contours, left_out


def _filled(contours: Sequence[Vector], name: str, grid: Geometry, planes: Sequence[SlicePlane], path: Path) -> Filled:
    """Returns the voxels inside of contours. Raises ``GeometryError`` for oblique ones."""
    if not contours:
        return NOTHING
    outline = outline_of(contours, grid)
    if outline is None:
        raise GeometryError(
            f"{path}: contours of '{name}' are oblique to the image; read it with the series that they were drawn on"
        )
    return fill(outline, planes)


def _points(contour: Header) -> Vector:
    """Returns the points of a contour, RAS mm (n, 3).

    They are converted at once: pydicom would make an object of each number.
    """
    try:
        stored = contour.dataset.get_item("ContourData")
        value = stored.value if stored is not None else b""
        numbers = np.array(value.split(b"\\") if isinstance(value, bytes) and value else value or [], dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("some are no numbers")
        return numbers.reshape(-1, 3) @ LPS_TO_RAS[:3, :3]
    except Exception as error:  # whatever the element holds
        raise SourceError(
            f"{contour.path}: a contour's points cannot be read ({reason_of(error)}); export it again"
        ) from error
