"""DICOM segmentations read back through pydicom, bit by bit."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, config, dcmread

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.dicom import StructuresFound, dicom_certificate, frame_geometry, slices_of_source
from medseg.io.certificates.raw_slices import RawSlice, RawSlices
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import Array, Geometry


def check_dicom_seg(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a DICOM SEG back and compares each frame with the label map on its slice of the source.

    Args:
        path: The file.
        segmented: What was to be written.

    Raises:
        ValueError: The file's frames contradict each other, or the source does not say where it lies.
    """
    with config.disable_value_validation():
        slices = slices_of_source(segmented)
        return dicom_certificate(_read_seg(dcmread(path), slices), segmented, slices)


def check_dicom_label_map(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a DICOM SEG of the type LABELMAP back and compares each frame with the label map on its slice.

    Args:
        path: The file.
        segmented: What was to be written.

    Raises:
        ValueError: The file's frames contradict each other, or the source does not say where it lies.
    """
    with config.disable_value_validation():
        slices = slices_of_source(segmented)
        return dicom_certificate(_read_label_map(dcmread(path), slices), segmented, slices)


def check_dicom_seg_on_grid(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a DICOM SEG back and compares each frame with a plane of the label map's grid.

    Whether the grid lies where it belongs is judged by ``RawSlices.off_mm``.

    Args:
        path: The file.
        segmented: What was to be written.

    Raises:
        ValueError: The file's frames contradict each other, or the source does not say where it lies.
    """
    frame_of_reference = slices_of_source(segmented)[0].frame_of_reference_uid
    affine, (columns, rows, n) = segmented.geometry.affine, segmented.geometry.shape
    grids = [Geometry((columns, rows, 1), _moved(affine, i)) for i in range(n)]
    planes = RawSlices(tuple(RawSlice("", i, frame_of_reference, grid) for i, grid in enumerate(grids)))
    with config.disable_value_validation():
        return dicom_certificate(_read_seg(dcmread(path), planes, refers=False), segmented, planes)


def _moved(affine: Array, slice_: int) -> Array:
    """Returns the affine of one plane of a grid, whose third axis is a mm along the normal."""
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    return np.column_stack([affine[:, :2], (*normal, 0), affine @ (0, 0, slice_, 1)])


def _read_seg(header: Dataset, slices: RawSlices, refers: bool = True) -> StructuresFound:
    number_of = {int(item.SegmentNumber): i for i, item in enumerate(header.SegmentSequence)}
    shared = header.SharedFunctionalGroupsSequence[0]
    frames: dict[tuple[int, int], int] = {}
    references, off_slice = [], 0.0
    for i, own in enumerate(header.PerFrameFunctionalGroupsSequence):
        place = frame_geometry(header, shared, own)
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
    return StructuresFound(names, whole_names, str(header.FrameOfReferenceUID), references, off_slice, mask)


def _read_label_map(header: Dataset, slices: RawSlices) -> StructuresFound:
    items = [item for item in header.SegmentSequence if int(item.SegmentNumber) != 0]  # 0 is the background
    shared = header.SharedFunctionalGroupsSequence[0]
    groups = header.PerFrameFunctionalGroupsSequence
    frames: dict[int, int] = {}
    references, off_slice = [], 0.0
    for i, own in enumerate(groups):
        place = frame_geometry(header, shared, own)
        number = slices.nearest(place.affine[:3, 3])
        off_slice = max(off_slice, slices[number].grid.distance(place))
        references.append((own.DerivationImageSequence[0].SourceImageSequence[0], number))
        if frames.setdefault(number, i) != i:
            raise ValueError(f"frames {frames[number] + 1} and {i + 1} lie at one place")
    pixels = header.pixel_array.reshape(len(groups), int(header.Rows), int(header.Columns))

    def mask(segment: int, number: int) -> Array | None:
        i = frames.get(number)
        return None if i is None else np.asarray(pixels[i] == int(items[segment].SegmentNumber))

    names = [str(item.SegmentLabel) for item in items]
    whole_names = [str(item.get("TrackingID") or "") for item in items]
    return StructuresFound(names, whole_names, str(header.FrameOfReferenceUID), references, off_slice, mask)


def _frame_bits(packed: Array, frame: int, shape: tuple[int, int]) -> Array:
    """Returns the pixels of a frame, boolean (row, column): eight a byte, the first one lowest (PS3.5, 8.1.1)."""
    size = shape[0] * shape[1]
    first, last = frame * size, (frame + 1) * size
    bits = np.unpackbits(packed[first // 8 : -(-last // 8)], bitorder="little")
    return bits[first % 8 : first % 8 + size].reshape(shape).astype(bool)
