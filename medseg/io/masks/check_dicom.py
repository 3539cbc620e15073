"""Masks in DICOM read back through pydicom: SEG bit by bit, RTSTRUCT filled as its reader fills.

Both are compared with the label map on each slice of the source: at the place where the slice lies, which has to be the
place that the file gives its mask. Where slices lie (``source_planes``) is all that writers and checks have in common.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom import Dataset, config, dcmread

from medseg.io.dicom.geometry import LPS_TO_RAS, Plane, Vector
from medseg.io.dicom.series import source_planes
from medseg.io.masks.certificate import Certificate
from medseg.io.masks.segmented import Segmented
from medseg.io.segmentations.polygons import filled
from medseg.volume import GRID_TOLERANCE, Array, Geometry

# The centre of a pixel that lies nearer than this (in voxels) to the border of two voxels may be in either.
BORDER = 1e-3

LONGEST_NAME = 64  # characters, value representation LO

Planes = Sequence[Plane]


class Found(NamedTuple):
    """What a file says. Structures and slices are counted from 0."""

    names: list[str]
    frame_of_reference_uid: str
    references: list[tuple[Dataset, int]]  # to files of the source, each with the slice that it is about
    off_plane_mm: float  # how far the furthest mask lies from its slice
    mask: Callable[[int, int], Array | None]  # (row, column) of a structure on a slice, where there is one


@dataclass
class Count:
    """Pixels of one structure, over all slices."""

    expected: int = 0
    found: int = 0
    different: int = 0

    @property
    def dice(self) -> float:
        both = self.expected + self.found
        return 1 - self.different / both if both else 1.0


def check_dicom_seg(path: Path, segmented: Segmented) -> Certificate:
    with config.disable_value_validation():
        planes = _planes(segmented)
        return _certificate(_read_seg(dcmread(path), planes), segmented, planes)


def check_rtstruct(path: Path, segmented: Segmented) -> Certificate:
    with config.disable_value_validation():
        planes = _planes(segmented)
        return _certificate(_read_rtstruct(dcmread(path), planes), segmented, planes, by_dice=True)


def _planes(segmented: Segmented) -> list[Plane]:
    if segmented.source is None:
        raise ValueError("masks in DICOM lie on the slices of a source")
    return source_planes(segmented.source)


def _read_seg(header: Dataset, planes: Planes) -> Found:
    number_of = {int(item.SegmentNumber): i for i, item in enumerate(header.SegmentSequence)}
    shared = header.SharedFunctionalGroupsSequence[0]
    frames: dict[tuple[int, int], int] = {}
    references, off_plane = [], 0.0
    for i, own in enumerate(header.PerFrameFunctionalGroupsSequence):
        place = _frame_geometry(header, shared, own)
        plane = _nearest(planes, place.world((0, 0, 0)))
        off_plane = max(off_plane, planes[plane].geometry.distance(place))
        references.append((own.DerivationImageSequence[0].SourceImageSequence[0], plane))
        # Where there is one segment, highdicom says so for all frames together.
        shown = own.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        segment = number_of[int(shown[0].ReferencedSegmentNumber)]
        if frames.setdefault((segment, plane), i) != i:
            raise ValueError(f"frames {frames[segment, plane] + 1} and {i + 1} show one segment at one place")
    bits = np.frombuffer(header.PixelData, dtype=np.uint8)
    shape = int(header.Rows), int(header.Columns)

    def mask(segment: int, plane: int) -> Array | None:
        i = frames.get((segment, plane))
        return None if i is None else _frame_bits(bits, i, shape)

    names = [str(item.SegmentLabel) for item in header.SegmentSequence]
    return Found(names, str(header.FrameOfReferenceUID), references, off_plane, mask)


def _frame_geometry(header: Dataset, shared: Dataset, own: Dataset) -> Geometry:
    """A frame as a grid (columns, rows, 1) in RAS (PS3.3, C.7.6.2.1.1)."""
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = orientation[:3] * between_columns, orientation[3:] * between_rows
    affine[:3, 2] = np.cross(orientation[:3], orientation[3:])
    affine[:3, 3] = own.PlanePositionSequence[0].ImagePositionPatient
    return Geometry((int(header.Columns), int(header.Rows), 1), LPS_TO_RAS @ affine)


def _frame_bits(packed: Array, frame: int, shape: tuple[int, int]) -> Array:
    """Boolean (row, column): eight pixels a byte, the first one lowest (PS3.5, 8.1.1)."""
    size = shape[0] * shape[1]
    first, last = frame * size, (frame + 1) * size
    bits = np.unpackbits(packed[first // 8 : -(-last // 8)], bitorder="little")
    return bits[first % 8 : first % 8 + size].reshape(shape).astype(bool)


def _read_rtstruct(header: Dataset, planes: Planes) -> Found:
    number_of = {int(item.ROINumber): i for i, item in enumerate(header.StructureSetROISequence)}
    polygons: dict[tuple[int, int], list[Array]] = defaultdict(list)
    references, off_plane = [], 0.0
    for roi in header.ROIContourSequence:
        for contour in roi.get("ContourSequence") or ():
            # Not through pydicom's numbers, of which it would make an object each.
            words = contour.get_item("ContourData").value.split(b"\\")
            points = np.array(words, dtype=np.float64).reshape(-1, 3) @ LPS_TO_RAS[:3, :3]
            plane = _nearest(planes, points.mean(axis=0))
            corners = planes[plane].geometry.index(points)
            off_plane = max(off_plane, float(np.abs(corners[:, 2]).max()) * planes[plane].geometry.spacing[2])
            polygons[number_of[int(roi.ReferencedROINumber)], plane].append(corners[:, :2])
            references.append((contour.ContourImageSequence[0], plane))

    def mask(roi: int, plane: int) -> Array | None:
        own = polygons.get((roi, plane))
        return None if own is None else filled(own, (planes[plane].columns, planes[plane].rows)).T

    names = [str(item.ROIName) for item in header.StructureSetROISequence]
    return Found(names, str(header.FrameOfReferenceUID), references, off_plane, mask)


def _nearest(planes: Planes, world: Vector) -> int:
    """The slice whose plane a place (RAS mm) lies nearest to."""
    normal, positions = planes[0].normal, np.array([plane.position for plane in planes])
    return int(np.abs((positions - world @ LPS_TO_RAS[:3, :3]) @ normal).argmin())


def _certificate(found: Found, segmented: Segmented, planes: Planes, by_dice: bool = False) -> Certificate:
    remarks = [*_wrong_names(found, segmented), *_wrong_references(found, planes)]
    counts = [] if remarks else _counts(found, segmented, planes)
    return Certificate(
        reader=f"pydicom {pydicom.__version__}",
        n_voxels=sum(plane.rows * plane.columns for plane in planes) * len(counts),
        n_different=sum(count.different for count in counts),
        max_distance_mm=found.off_plane_mm,
        tolerance_mm=GRID_TOLERANCE * min(segmented.geometry.spacing),
        dice=min((count.dice for count in counts), default=0.0) if by_dice else None,
        remark="; ".join(remarks),
    )


def _wrong_names(found: Found, segmented: Segmented) -> Iterator[str]:
    expected = [structure.name for structure in segmented.labels.structures]
    if [_comparable(name) for name in found.names] != [_comparable(name) for name in expected]:
        yield f"its structures are {', '.join(found.names)} instead of {', '.join(expected)}"


def _comparable(name: str) -> str:
    """DICOM has no backslashes in names, no control characters, and no more than 64 characters."""
    kept = name.strip().replace("\\", "/")[:LONGEST_NAME]
    return "".join(character for character in kept if character.isprintable() and not character.isspace())


def _wrong_references(found: Found, planes: Planes) -> Iterator[str]:
    tags = ["SOPInstanceUID", "FrameOfReferenceUID"]
    paths = {plane.path for plane in planes}
    headers = {path: dcmread(path, stop_before_pixels=True, specific_tags=list(tags), force=True) for path in paths}
    of_source = headers[planes[0].path].get("FrameOfReferenceUID")
    if of_source and of_source != found.frame_of_reference_uid:
        yield "its frame of reference is not that of the source"
    for reference, plane in found.references:
        if reference.ReferencedSOPInstanceUID != headers[planes[plane].path].SOPInstanceUID:
            yield f"what lies on slice {plane + 1} refers to another one"
            return


def _counts(found: Found, segmented: Segmented, planes: Planes) -> list[Count]:
    structures = segmented.labels.structures
    counts = [Count() for _ in structures]
    for i, plane in enumerate(planes):
        likely, possible = _labels_at(plane, segmented)
        present = {*np.unique(likely).tolist(), *np.unique(possible).tolist()}
        for number, structure in enumerate(structures):
            mask = found.mask(number, i)
            if mask is None and not present & set(structure.values):
                continue
            expected = np.isin(likely, structure.values)
            shown = np.zeros_like(expected) if mask is None else mask
            counts[number].expected += int(expected.sum())
            counts[number].found += int(shown.sum())
            differs = (shown != expected) & (shown != np.isin(possible, structure.values))
            counts[number].different += int(differs.sum())
    return counts


def _labels_at(plane: Plane, segmented: Segmented) -> tuple[Array, Array]:
    """The labels (row, column) at the centres of pixels, twice: centres on the border of two voxels have the label of
    the upper one in the first, and of the lower one in the second."""
    affine = np.linalg.inv(segmented.geometry.affine) @ plane.geometry.affine
    column, row = np.arange(plane.columns), np.arange(plane.rows)[:, None]
    place = [along[0] * column + along[1] * row + along[3] + 0.5 for along in affine[:3]]
    upper = _picked(segmented, [np.floor(axis + BORDER) for axis in place])
    if all((np.abs(axis - np.rint(axis)) > BORDER).all() for axis in place):
        return upper, upper
    return upper, _picked(segmented, [np.floor(axis - BORDER) for axis in place])


def _picked(segmented: Segmented, index: Sequence[Array]) -> Array:
    """Of the voxels with these indices; 0 outside of the grid."""
    shape = segmented.geometry.shape
    inside = np.all([(axis >= 0) & (axis < n) for axis, n in zip(index, shape, strict=True)], axis=0)
    nearest = tuple(axis.clip(0, n - 1).astype(np.intp) for axis, n in zip(index, shape, strict=True))
    return np.where(inside, segmented.label_map[nearest], 0)
