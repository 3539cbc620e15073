"""DICOM secondary captures read back through pydicom: the colours of each frame against the label map."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset, config, dcmread
from pydicom.pixels.utils import iter_pixels

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.dicom import frame_geometry, labels_at, slices_of_source
from medseg.io.certificates.raw_slices import RawSlice, RawSlices
from medseg.io.label_map_volume import LabelMapVolume
from medseg.structures import Label
from medseg.volume import GRID_TOLERANCE, Array, Geometry

MOST_GREY = 2  # by so much may the channels of a grey pixel differ, where a colour was laid over it and taken away
OPACITY = 0.35


def check_dicom_sc(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a secondary capture back: pixels are grey where nothing is, and have a label's colour where that is.

    Args:
        path: The file.
        segmented: What was to be written.

    Raises:
        ValueError: The source does not say where it lies.
    """
    with config.disable_value_validation():
        capture, slices = dcmread(path), slices_of_source(segmented)
        label_map, items = segmented.shown
        painted = replace(segmented, label_map=label_map)
        columns = slices[0].grid.shape[0]
        times, shown = divmod(int(capture.Columns), columns)[0], set[int]()
        off_slice, different, n_voxels = 0.0, 0, 0
        for picture, place in zip(iter_pixels(capture), _places(capture, slices, times), strict=True):
            number = slices.nearest(place.affine[:3, 3])
            shown.add(number)
            off_slice = max(off_slice, _off(slices[number], place, times))
            enlarged = [each.repeat(times, axis=0).repeat(times, axis=1) for each in labels_at(slices[number], painted)]
            wrongs = [_wrong(picture[: len(each)], each, items) for each in enlarged]
            wrong = wrongs[0] & wrongs[1]
            different, n_voxels = different + int(wrong.sum()), n_voxels + wrong.size
        remark = "" if shown >= _needed(slices, segmented) else "slices with structures are missing"
    return Certificate(
        reader=f"pydicom {pydicom.__version__}",
        n_voxels=n_voxels,
        n_different=different,
        max_distance_mm=off_slice,
        tolerance_mm=GRID_TOLERANCE * min(segmented.geometry.spacing),
        remark=remark,
    )


def _places(capture: Dataset, slices: RawSlices, times: int) -> Iterator[Geometry]:
    """Yields the grid of each frame without its legend."""
    rows = slices[0].grid.shape[1] * times
    for own in capture.PerFrameFunctionalGroupsSequence:
        place = frame_geometry(capture, capture.SharedFunctionalGroupsSequence[0], own)
        yield Geometry((place.shape[0], rows, 1), place.affine)


def _off(slice_: RawSlice, place: Geometry, times: int) -> float:
    """Returns by how many mm a frame lies off its slice: at the centres of the outermost pixels of the slice."""
    columns, rows, _ = slice_.grid.shape
    corners = np.array([(0, 0, 0), (columns - 1, 0, 0), (0, rows - 1, 0)])
    enlarged = corners * (times, times, 1) + np.array([(times - 1) / 2, (times - 1) / 2, 0])
    return float(np.linalg.norm(slice_.grid.world(corners) - place.world(enlarged), axis=1).max())


def _wrong(picture: Array, label_map: Array, items: Sequence[Label]) -> Array:
    """Returns the pixels that don't have the colour of their label, or are not grey without one."""
    values = picture.astype(np.float32)
    wrong: Array = np.ptp(values, axis=-1) > 0
    for label in items:
        mask = label_map == label.value
        if mask.any():
            colour = np.array(label.colour, np.float32)
            is_outline = (values[mask] == colour).all(axis=-1)
            beneath = (values[mask] - OPACITY * colour) / (1 - OPACITY)
            wrong[mask] = ~is_outline & (np.ptp(beneath, axis=-1) > MOST_GREY)
    return wrong


def _needed(slices: RawSlices, segmented: LabelMapVolume) -> set[int]:
    """Returns the numbers of the slices on which a structure certainly is."""
    needed = set()
    for i, slice_ in enumerate(slices.slices):
        likely, possible = labels_at(slice_, segmented)
        if ((likely != 0) & (possible != 0)).any():
            needed.add(i)
    return needed
