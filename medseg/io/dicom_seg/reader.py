"""DICOM segmentations (SEG; PS3.3, A.51 and C.8.20) through pydicom: binary, fractional and label maps."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import config, dcmread
from pydicom.pixels.utils import iter_pixels

from medseg.errors import GeometryError, MedsegError, SourceError, reading, reason_of
from medseg.io.dicom.files import read_header
from medseg.io.dicom.frames import frame_headers
from medseg.io.dicom.geometry import LPS_TO_RAS, SlicePlane, plane_of
from medseg.io.dicom.header import Header
from medseg.io.dicom.pixels import check_pixel_bytes
from medseg.io.dicom.segmentation_objects import code_in
from medseg.io.dicom.slices import Slices, evenly_filled
from medseg.io.segmentation import Layers, Segment, Segmentation, SegmentHeader, value_counts, with_unique_names
from medseg.io.segments_on_grid import layers_on_grid
from medseg.io.structure_names import whole_name
from medseg.structures import Colour
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry, Shape3

HEADER_KEYWORDS = ["SOPClassUID", "SpecificCharacterSet", "SegmentationType", "SegmentSequence"]

# A fractional segment is where at least this part of the voxel is filled, or this probable.
FRACTION = 0.5

# Label maps have a segment 0 or one of this code (DCM) for what is no structure (supplement 243).
BACKGROUND = ("DCM", "125040")

LARGEST_NUMBER = 2**16 - 1  # of a segment (PS3.6: value representation US)


def read_dicom_seg(path: Path, grid: Geometry | None = None, planes: Sequence[SlicePlane] = ()) -> Segmentation:
    """Reads the segments of a DICOM SEG.

    A voxel gets the segments of the frame pixel that it lies in.

    Args:
        path: The file.
        grid: Where the segments are placed; None for a grid of their own.
        planes: The true slices of the image that ``grid`` was read from. Where the frames lie on them, a slice without
            a frame shows nothing, however uneven or tilted the slices are. Otherwise the frames' own even distance
            tells which slices have no frame.

    Raises:
        SourceError: The file is damaged.
        GeometryError: Frames make no grid, or segments reach out of ``grid``.
    """
    with config.disable_value_validation():
        header = _read(path)
        slices, numbers = _slices(_frame_planes(header), grid, planes)
        try:
            check_pixel_bytes(read_header(path))
            layers, segments, notes = _segments(header, slices, numbers, path)
        except MedsegError:
            raise
        except Exception as error:  # pydicom raises many kinds on damaged pixel data
            raise SourceError(
                f"{path}: frames are missing, truncated or damaged ({reason_of(error)}); export it again"
            ) from error
    own = slices.geometry(path)
    if grid is None:
        if own is None:
            raise GeometryError(f"{path}: its frames are tilted or uneven and make no grid; read it with --like IMAGE")
        return Segmentation(own, tuple(layers), segments, tuple(notes))
    placed, more_notes = layers_on_grid(layers, segments, own or slices, grid, path)
    return Segmentation(grid, placed, segments, (*notes, *more_notes))


def dicom_seg_headers(path: Path) -> tuple[SegmentHeader, ...]:
    """Reads numbers, names, colours and codes of the segments, without their voxels.

    Raises:
        SourceError: The file cannot be read.
    """
    with config.disable_value_validation():
        header = _read(path, stop_before_pixels=True, specific_tags=HEADER_KEYWORDS)
        return tuple(described for _, described in _described(header, path))


def dicom_seg_planes(path: Path) -> list[SlicePlane]:
    """Reads where the frames lie.

    Raises:
        SourceError: The file cannot be read.
        GeometryError: Frames have several orientations.
    """
    with config.disable_value_validation():
        return _frame_planes(_read(path, stop_before_pixels=True))


def _read(path: Path, **how: Any) -> Header:
    with reading(path, "DICOM"):
        header = Header(path, dcmread(path, **how))
    if not header.items("SegmentSequence"):
        raise SourceError(f"{path}: describes no segments; is it a DICOM segmentation?")
    return header


def _described(header: Header, path: Path) -> list[tuple[int, SegmentHeader]]:
    """Returns the segments, each with the SegmentNumber of its frames; the background of a label map is none."""
    try:
        items = header.items("SegmentSequence")
        if _is_label_map(header):
            items = [item for item in items if not _is_background(item)]
        numbers = [_segment_number(item) for item in items]
        headers = [
            SegmentHeader(
                number,
                whole_name(item.text("SegmentLabel"), item.text("TrackingID")),
                colour=_colour(item),
                category=code_in(item, "SegmentedPropertyCategoryCodeSequence"),
                type=code_in(item, "SegmentedPropertyTypeCodeSequence"),
                modifier=code_in(
                    item.item("SegmentedPropertyTypeCodeSequence"), "SegmentedPropertyTypeModifierCodeSequence"
                ),
            )
            for number, item in zip(numbers, items, strict=True)
        ]
    except MedsegError:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged values
        raise SourceError(f"{path}: its segments cannot be read ({reason_of(error)}); export it again") from error
    return list(zip(numbers, with_unique_names(headers, "segment"), strict=True))


def _is_label_map(header: Header) -> bool:
    return header.text("SegmentationType") == "LABELMAP"


def _is_background(item: Header) -> bool:
    code = code_in(item, "SegmentedPropertyTypeCodeSequence")
    return _segment_number(item) == 0 or (code is not None and (code.scheme, code.value) == BACKGROUND)


def _segment_number(item: Header, keyword: str = "SegmentNumber") -> int:
    number = item.whole(keyword)
    if number is None:
        raise SourceError(f"{item.path}: has a segment or a frame without {keyword}; export it again")
    if not 0 <= number <= LARGEST_NUMBER:
        raise SourceError(f"{item.path}: {keyword} is {number}, which no segment can have; export it again")
    return number


def _colour(item: Header) -> Colour | None:
    """Returns the colour of CIELab in 16 bits a value (PS3.3, C.10.7.1.1), with the white of screens, as dcmqi does."""
    try:
        encoded = item.numbers("RecommendedDisplayCIELabValue", 3)
    except SourceError:
        return None
    if encoded is None:
        return None
    from skimage.color import lab2rgb

    lightness, a, b = (value / 65535 for value in encoded)
    colour = lab2rgb([lightness * 100, a * 255 - 128, b * 255 - 128])
    red, green, blue = (round(float(value) * 255) for value in colour)
    return red, green, blue


def _frame_planes(header: Header) -> list[SlicePlane]:
    """Returns where each frame lies. Raises ``SourceError``, ``GeometryError``."""
    groups = header.items("PerFrameFunctionalGroupsSequence")
    if not groups:
        raise SourceError(f"{header.path}: no functional groups tell where its frames lie; export it again")
    if "PlanePositionSlideSequence" in groups[0]:
        raise SourceError(f"{header.path}: a segmentation of a microscopy slide, which has no place in a patient")
    planes = [plane_of(frame) for frame in frame_headers(header)]
    if not all(plane.is_parallel_to(planes[0]) for plane in planes):
        raise GeometryError(
            f"{header.path}: its frames differ in orientation or spacing; export a segmentation of one series"
        )
    return planes


def _slices(
    frames: Sequence[SlicePlane], grid: Geometry | None, planes: Sequence[SlicePlane]
) -> tuple[Slices, list[int]]:
    """Returns the slices that the segments were drawn on, and the number of each frame's."""
    if planes:
        slices = Slices(tuple(planes))
        numbers = slices.numbers_of(frames)
        if numbers is not None:
            return slices, numbers
    distances = [frames[0].thickness, _step_along(frames[0], grid)]
    slices = evenly_filled(frames, [distance for distance in distances if distance])
    return slices, slices.nearest(frames)


def _step_along(plane: SlicePlane, grid: Geometry | None) -> float | None:
    """Returns the distance of the grid's slices, mm, if it has some that are parallel to the plane."""
    if grid is None:
        return None
    cosines = np.abs(LPS_TO_RAS[:3, :3] @ plane.normal @ grid.affine[:3, :3]) / grid.spacing
    axis = int(cosines.argmax())
    return grid.spacing[axis] if cosines[axis] > 1 - SHEAR_TOLERANCE else None


def _segments(
    header: Header, slices: Slices, numbers: Sequence[int], path: Path
) -> tuple[list[Array], tuple[Segment, ...], list[str]]:
    """Returns layers (x, y, z) on the slices, segments, and notes. ``numbers``: the slice of each frame."""
    columns, rows, n_slices = slices.shape
    shape = (n_slices, rows, columns)
    if _is_label_map(header):
        layers, segments, notes = _label_map(header, shape, numbers, path)
    else:
        layers, segments, notes = _masks(header, shape, numbers, path)
    return [layer.T for layer in layers], segments, notes


def _masks(
    header: Header, shape: Shape3, numbers: Sequence[int], path: Path
) -> tuple[list[Array], tuple[Segment, ...], list[str]]:
    """Returns binary and fractional segments, each with frames of its own."""
    frames = _frames_of_segments(header, path)
    described = _described(header, path)
    threshold, notes = _threshold(header)
    layers = Layers(shape, len(described))
    segments = []
    for value, (number, segment) in enumerate(described, start=1):
        own = frames.pop(number, [])
        places = [numbers[i] for i in own]
        if len(set(places)) < len(places):
            raise SourceError(f"{path}: several frames of '{segment.name}' at one place; export one point in time")
        first, end = min(places, default=0), max(places, default=-1) + 1
        mask = np.zeros((end - first, *shape[1:]), dtype=bool)
        for place, pixels in zip(places, _pixels(header, own), strict=True):
            mask[place - first] = pixels >= threshold
        box = (slice(first, end), slice(None), slice(None))
        segments.append(Segment.of(segment, layers.add(value, mask, box), value))
    if frames:
        raise SourceError(f"{path}: has frames of segments {sorted(frames)}, which it does not describe")
    return layers.arrays, tuple(segments), notes


def _threshold(header: Header) -> tuple[float, list[str]]:
    """Returns the least pixel value in a segment, and a note about it."""
    if header.text("SegmentationType") != "FRACTIONAL":
        return 1, []
    kind = (header.text("SegmentationFractionalType") or "fraction").lower()
    note = f"fractional segments ({kind}): voxels of at least {FRACTION:g} are taken"
    return FRACTION * (header.whole("MaximumFractionalValue") or 255), [note]


def _frames_of_segments(header: Header, path: Path) -> dict[int, list[int]]:
    """Returns the frames (from 0) of each segment, by SegmentNumber."""
    frames = defaultdict(list)
    for i, frame in enumerate(frame_headers(header)):
        if "ReferencedSegmentNumber" not in frame:
            raise SourceError(f"{path}: frame {i + 1} does not say which segment it shows; export it again")
        frames[_segment_number(frame, "ReferencedSegmentNumber")].append(i)
    return frames


def _label_map(
    header: Header, shape: Shape3, numbers: Sequence[int], path: Path
) -> tuple[list[Array], tuple[Segment, ...], list[str]]:
    """Returns the segments of frames that hold their numbers."""
    described = dict(_described(header, path))
    if len(set(numbers)) < len(numbers):
        raise SourceError(f"{path}: several frames at one place; export one point in time")
    layer = np.zeros(shape, dtype=np.uint8 if header.whole("BitsAllocated") == 8 else np.uint16)
    for place, pixels in zip(numbers, _pixels(header, range(len(numbers))), strict=True):
        layer[place] = pixels
    counts = value_counts(layer)
    background = {int(header.number_if_any("PixelPaddingValue") or 0), 0}
    kept = np.array([value if value in described.keys() - background else 0 for value in range(len(counts))])
    stray = [int(v) for v in np.flatnonzero(counts) if kept[v] == 0 and v not in background]
    notes = [f"values {stray} are no segment's; taken as background"] if stray else []
    segments = tuple(Segment.of(segment, 0, number) for number, segment in described.items())
    return [kept.astype(layer.dtype)[layer]], segments, notes


def _pixels(header: Header, frames: Sequence[int]) -> Iterator[Array]:
    """Returns the pixels (row, column) of each of the frames (from 0)."""
    if not len(frames):
        return iter(())
    syntax = header.dataset.file_meta.TransferSyntaxUID
    if header.whole("BitsAllocated") == 1 and not syntax.is_compressed and syntax.is_little_endian:
        return _bits(header, frames)
    return iter_pixels(header.dataset, indices=frames, raw=True)


def _bits(header: Header, frames: Sequence[int]) -> Iterator[Array]:
    """Yields frames of eight pixels a byte, the first one lowest (PS3.5, 8.1.1). They may begin and end within a byte:
    pydicom 3.0 cannot read many such."""
    packed = np.frombuffer(header.dataset.PixelData, dtype=np.uint8)
    rows, columns = header.whole("Rows") or 0, header.whole("Columns") or 0
    n = rows * columns
    for frame in frames:
        first, skipped = divmod(frame * n, 8)
        bits = np.unpackbits(packed[first : first + (skipped + n + 7) // 8], bitorder="little")
        yield bits[skipped : skipped + n].reshape(rows, columns)
