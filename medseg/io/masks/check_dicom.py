"""Masks in DICOM read back through pydicom: SEG bit by bit, RTSTRUCT filled as its reader fills.

Both are compared with the label map on each slice of the source: at the place where the source's own files say that the
slice lies (``raw_slices``), which has to be the place that the file gives its mask.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom import Dataset, config, dcmread

from medseg.io.masks.certificate import Certificate
from medseg.io.masks.raw_slices import LPS_TO_RAS, RawSlice, RawSlices
from medseg.io.masks.segmented import Segmented
from medseg.io.rtstruct.polygons import filled
from medseg.volume import GRID_TOLERANCE, Array, Geometry

# The centre of a pixel that lies nearer than this (in voxels) to the border of two voxels may be in either.
BORDER = 1e-3

LONGEST_NAME = 64  # characters, value representation LO
UNNAMED = "unnamed"
MOST_TEXT = 900  # characters that are compared: descriptions end at 1024, spaces and control characters among them


class Found(NamedTuple):
    """What a file says. Structures and slices are counted from 0."""

    names: list[str]  # short ones, as viewers list them
    whole_names: list[str]  # "" where the short one is all
    frame_of_reference_uid: str
    references: list[tuple[Dataset, int]]  # to files of the source, each with the slice that it is about
    off_slice_mm: float  # how far the furthest mask lies from its slice
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
        slices = _slices(segmented)
        return _certificate(_read_seg(dcmread(path), slices), segmented, slices)


def check_dicom_seg_on_grid(path: Path, segmented: Segmented) -> Certificate:
    """On the planes of the label map's grid, whose place ``off_mm`` judges."""
    frame_of_reference = _slices(segmented)[0].frame_of_reference_uid
    affine, (columns, rows, n) = segmented.geometry.affine, segmented.geometry.shape
    grids = [Geometry((columns, rows, 1), _moved(affine, i)) for i in range(n)]
    planes = RawSlices(tuple(RawSlice("", i, frame_of_reference, grid) for i, grid in enumerate(grids)))
    with config.disable_value_validation():
        return _certificate(_read_seg(dcmread(path), planes, refers=False), segmented, planes)


def _moved(affine: Array, slice_: int) -> Array:
    """That of one plane of a grid, whose third axis is a mm along the normal."""
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    return np.column_stack([affine[:, :2], (*normal, 0), affine @ (0, 0, slice_, 1)])


def check_rtstruct(path: Path, segmented: Segmented) -> Certificate:
    with config.disable_value_validation():
        slices = _slices(segmented)
        return _certificate(_read_rtstruct(dcmread(path), slices), segmented, slices, by_dice=True)


def _slices(segmented: Segmented) -> RawSlices:
    if segmented.slices is None:
        raise ValueError("masks in DICOM lie on the slices of a source, whose files say where")
    return segmented.slices


def _read_seg(header: Dataset, slices: RawSlices, refers: bool = True) -> Found:
    number_of = {int(item.SegmentNumber): i for i, item in enumerate(header.SegmentSequence)}
    shared = header.SharedFunctionalGroupsSequence[0]
    frames: dict[tuple[int, int], int] = {}
    references, off_slice = [], 0.0
    for i, own in enumerate(header.PerFrameFunctionalGroupsSequence):
        place = _frame_geometry(header, shared, own)
        number = slices.nearest(place.affine[:3, 3])
        off_slice = max(off_slice, slices[number].grid.distance(place))
        if refers:
            references.append((own.DerivationImageSequence[0].SourceImageSequence[0], number))
        # Where there is one segment, highdicom says so for all frames together.
        shown = own.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        segment = number_of[int(shown[0].ReferencedSegmentNumber)]
        if frames.setdefault((segment, number), i) != i:
            raise ValueError(f"frames {frames[segment, number] + 1} and {i + 1} show one segment at one place")
    bits = np.frombuffer(header.PixelData, dtype=np.uint8)
    shape = int(header.Rows), int(header.Columns)

    def mask(segment: int, number: int) -> Array | None:
        i = frames.get((segment, number))
        return None if i is None else _frame_bits(bits, i, shape)

    names = [str(item.SegmentLabel) for item in header.SegmentSequence]
    whole_names = [str(item.get("TrackingID") or "") for item in header.SegmentSequence]
    return Found(names, whole_names, str(header.FrameOfReferenceUID), references, off_slice, mask)


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


def _read_rtstruct(header: Dataset, slices: RawSlices) -> Found:
    number_of = {int(item.ROINumber): i for i, item in enumerate(header.StructureSetROISequence)}
    polygons: dict[tuple[int, int], list[Array]] = defaultdict(list)
    references, off_slice = [], 0.0
    for roi in header.ROIContourSequence:
        for contour in roi.get("ContourSequence") or ():
            # Not through pydicom's numbers, of which it would make an object each.
            words = contour.get_item("ContourData").value.split(b"\\")
            points = np.array(words, dtype=np.float64).reshape(-1, 3) @ LPS_TO_RAS[:3, :3]
            number = slices.nearest(points.mean(axis=0))
            corners = slices[number].grid.index(points)
            off_slice = max(off_slice, float(np.abs(corners[:, 2]).max()))
            polygons[number_of[int(roi.ReferencedROINumber)], number].append(corners[:, :2])
            references.append((contour.ContourImageSequence[0], number))

    def mask(roi: int, number: int) -> Array | None:
        own = polygons.get((roi, number))
        return None if own is None else filled(own, slices[number].grid.shape[:2]).T

    names = [str(item.ROIName) for item in header.StructureSetROISequence]
    whole_names = [str(item.get("ROIDescription") or "") for item in header.StructureSetROISequence]
    return Found(names, whole_names, str(header.FrameOfReferenceUID), references, off_slice, mask)


def _certificate(found: Found, segmented: Segmented, slices: RawSlices, by_dice: bool = False) -> Certificate:
    remarks = [*_wrong_names(found, segmented), *_wrong_references(found, slices)]
    counts = [] if remarks else _counts(found, segmented, slices)
    return Certificate(
        reader=f"pydicom {pydicom.__version__}",
        n_voxels=sum(prod(each.shape) for each in slices.slices) * len(counts),
        n_different=sum(count.different for count in counts),
        max_distance_mm=found.off_slice_mm,
        tolerance_mm=GRID_TOLERANCE * min(segmented.geometry.spacing),
        dice=min((count.dice for count in counts), default=0.0) if by_dice else None,
        remark="; ".join(remarks),
    )


def _wrong_names(found: Found, segmented: Segmented) -> Iterator[str]:
    expected = [structure.name for structure in segmented.labels.structures]
    names = [whole or short for short, whole in zip(found.names, found.whole_names, strict=True)]
    if [_comparable(name) for name in names] != [_comparable(name) for name in expected]:
        yield f"its structures are {', '.join(names)} instead of {', '.join(expected)}"
    if len(set(found.names)) < len(found.names) or not all(0 < len(name) <= LONGEST_NAME for name in found.names):
        yield f"the names {', '.join(found.names)} are empty, too long, or the same"


def _comparable(name: str) -> str:
    """Without control characters, which DICOM doesn't have, and no longer than its longest text."""
    kept = (character for character in name if character.isprintable() and not character.isspace())
    return "".join(kept)[:MOST_TEXT] or UNNAMED


def _wrong_references(found: Found, slices: RawSlices) -> Iterator[str]:
    of_source = slices[0].frame_of_reference_uid
    if of_source and of_source != found.frame_of_reference_uid:
        yield "its frame of reference is not that of the source"
    for reference, number in found.references:
        named = reference.get("ReferencedFrameNumber")
        frames = [named] if isinstance(named, int) else named or [slices[number].frame + 1]
        if reference.ReferencedSOPInstanceUID != slices[number].uid or slices[number].frame + 1 not in frames:
            yield f"what lies on slice {number + 1} refers to another one"
            return


def _counts(found: Found, segmented: Segmented, slices: RawSlices) -> list[Count]:
    structures = segmented.labels.structures
    counts = [Count() for _ in structures]
    for i, slice_ in enumerate(slices.slices):
        likely, possible = _labels_at(slice_, segmented)
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


def _labels_at(slice_: RawSlice, segmented: Segmented) -> tuple[Array, Array]:
    """The labels (row, column) at the centres of pixels, twice: centres on the border of two voxels have the label of
    the upper one in the first, and of the lower one in the second."""
    affine = np.linalg.inv(segmented.geometry.affine) @ slice_.grid.affine
    rows, columns = slice_.shape
    column, row = np.arange(columns), np.arange(rows)[:, None]
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
