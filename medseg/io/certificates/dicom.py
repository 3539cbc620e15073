"""What the checks of DICOM SEG and RTSTRUCT share: structures on slices, compared with a label map.

Both are compared with the label map on each slice of the source: at the place where the source's own files say that the
slice lies (``raw_slices``), which has to be the place that the file gives its mask.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom import Dataset

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.raw_slices import LPS_TO_RAS, RawSlice, RawSlices
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import GRID_TOLERANCE, Array, Geometry

# The centre of a pixel that lies nearer than this (in voxels) to the border of two voxels may be in either.
BORDER = 1e-3

LONGEST_NAME = 64  # characters, value representation LO
UNNAMED = "unnamed"
MOST_TEXT = 900  # characters that are compared: descriptions end at 1024, spaces and control characters among them


class StructuresFound(NamedTuple):
    """What a file says of its structures. Structures and slices are counted from 0.

    Attributes:
        names: Short ones, as viewers list them.
        whole_names: ``""`` where the short one is all.
        frame_of_reference_uid: That of the file.
        references: To files of the source, each with the number of the slice that it is about.
        off_slice_mm: How far the furthest mask lies from its slice.
        mask: Gives the mask ``(row, column)`` of a structure on a slice; None where there is none.
    """

    names: list[str]
    whole_names: list[str]
    frame_of_reference_uid: str
    references: list[tuple[Dataset, int]]
    off_slice_mm: float
    mask: Callable[[int, int], Array | None]


@dataclass
class Count:
    """Pixels of one structure, over all slices.

    Attributes:
        expected: How many it was to have.
        found: How many it has.
        different: How many pixels are in one of the two only.
    """

    expected: int = 0
    found: int = 0
    different: int = 0

    @property
    def dice(self) -> float:
        """The Dice of what was expected and what was found; 1 where both are empty."""
        both = self.expected + self.found
        return 1 - self.different / both if both else 1.0


def slices_of_source(segmented: LabelMapVolume) -> RawSlices:
    """Returns the slices that a mask in DICOM lies on, as the files of its source say.

    Raises:
        ValueError: The source is no DICOM, or its files don't say where they lie.
    """
    if segmented.slices is None:
        raise ValueError("masks in DICOM lie on the slices of a source, whose files say where")
    return segmented.slices


def frame_geometry(header: Dataset, shared: Dataset, own: Dataset) -> Geometry:
    """Returns a frame as a grid ``(columns, rows, 1)`` in RAS (PS3.3, C.7.6.2.1.1).

    Args:
        header: Of the file.
        shared: The functional groups of all frames.
        own: Those of the frame.
    """
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = orientation[:3] * between_columns, orientation[3:] * between_rows
    affine[:3, 2] = np.cross(orientation[:3], orientation[3:])
    affine[:3, 3] = own.PlanePositionSequence[0].ImagePositionPatient
    return Geometry((int(header.Columns), int(header.Rows), 1), LPS_TO_RAS @ affine)


def dicom_certificate(
    found: StructuresFound, segmented: LabelMapVolume, slices: RawSlices, by_dice: bool = False
) -> Certificate:
    """Compares what was found in a DICOM file with the label map, slice by slice.

    Args:
        found: What the file says.
        segmented: What was to be written.
        slices: Where the slices lie.
        by_dice: Whether structures are contours, for which Dice counts rather than single pixels.
    """
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


def _wrong_names(found: StructuresFound, segmented: LabelMapVolume) -> Iterator[str]:
    expected = [structure.name for structure in segmented.labels.structures]
    names = [whole or short for short, whole in zip(found.names, found.whole_names, strict=True)]
    if [comparable(name) for name in names] != [comparable(name) for name in expected]:
        yield f"its structures are {', '.join(names)} instead of {', '.join(expected)}"
    if len(set(found.names)) < len(found.names) or not all(0 < len(name) <= LONGEST_NAME for name in found.names):
        yield f"the names {', '.join(found.names)} are empty, too long, or the same"


def comparable(name: str) -> str:
    """Returns a name without control characters, which DICOM doesn't have, and no longer than its longest text.

    Args:
        name: Of a structure.
    """
    kept = (character for character in name if character.isprintable() and not character.isspace())
    return "".join(kept)[:MOST_TEXT] or UNNAMED


def _wrong_references(found: StructuresFound, slices: RawSlices) -> Iterator[str]:
    of_source = slices[0].frame_of_reference_uid
    if of_source and of_source != found.frame_of_reference_uid:
        yield "its frame of reference is not that of the source"
    for reference, number in found.references:
        named = reference.get("ReferencedFrameNumber")
        frames = [named] if isinstance(named, int) else named or [slices[number].frame + 1]
        if reference.ReferencedSOPInstanceUID != slices[number].uid or slices[number].frame + 1 not in frames:
            yield f"what lies on slice {number + 1} refers to another one"
            return


def _counts(found: StructuresFound, segmented: LabelMapVolume, slices: RawSlices) -> list[Count]:
    structures = segmented.labels.structures
    counts = [Count() for _ in structures]
    for i, slice_ in enumerate(slices.slices):
        likely, possible = labels_at(slice_, segmented)
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


def labels_at(slice_: RawSlice, segmented: LabelMapVolume) -> tuple[Array, Array]:
    """Returns the labels ``(row, column)`` at the centres of pixels, twice.

    Centres on the border of two voxels have the label of the upper one in the first, and of the lower one in the
    second.

    Args:
        slice_: Where the pixels lie.
        segmented: The label map.
    """
    affine = np.linalg.inv(segmented.geometry.affine) @ slice_.grid.affine
    rows, columns = slice_.shape
    column, row = np.arange(columns), np.arange(rows)[:, None]
    place = [along[0] * column + along[1] * row + along[3] + 0.5 for along in affine[:3]]
    upper = _picked(segmented, [np.floor(axis + BORDER) for axis in place])
    if all((np.abs(axis - np.rint(axis)) > BORDER).all() for axis in place):
        return upper, upper
    return upper, _picked(segmented, [np.floor(axis - BORDER) for axis in place])


def _picked(segmented: LabelMapVolume, index: Sequence[Array]) -> Array:
    """Returns the labels of the voxels with these indices; 0 outside of the grid."""
    shape = segmented.geometry.shape
    inside = np.all([(axis >= 0) & (axis < n) for axis, n in zip(index, shape, strict=True)], axis=0)
    nearest = tuple(axis.clip(0, n - 1).astype(np.intp) for axis, n in zip(index, shape, strict=True))
    return np.where(inside, segmented.label_map[nearest], 0)
