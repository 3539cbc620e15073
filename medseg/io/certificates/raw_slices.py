"""Where the slices of a DICOM image lie, straight from its files: what certificates compare masks with.

Nothing of ``medseg.io.dicom`` is used, so that an image which was read wrong gets no mask that is certified right:
attributes are looked up where the standard has them, in a classic file at its top (PS3.3, C.7.6.2), in an enhanced one
by the paths of its functional groups (C.7.6.16.2), and mosaics are nibabel's business.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, config, dcmread

from medseg.io.source import ImageSource
from medseg.volume import Geometry

Vector = npt.NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

TAGS = [
    "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID", "ImageType", "Rows", "Columns", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

# The functional group of each attribute.
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
}

# X-rays (PS3.4, B.5): radiographs, mammograms, angiograms. They show a plane, and have none.
PROJECTIONS = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(1|1\..*|12\.[12])")

# Pixels by which slices of an upright series may lie beside each other, and are read as they are.
UPRIGHT = 0.25


@dataclass(frozen=True)
class RawSlice:
    """One slice as its file says it.

    Attributes:
        uid: SOPInstanceUID.
        frame: Its number in the file, from 0.
        frame_of_reference_uid: Of the file; empty where it has none.
        grid: ``(columns, rows, 1)``, in RAS mm; the third axis is a mm along the normal.
    """

    uid: str
    frame: int
    frame_of_reference_uid: str
    grid: Geometry

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels as ``(rows, columns)``."""
        columns, rows, _ = self.grid.shape
        return rows, columns


@dataclass(frozen=True)
class RawSlices:
    """The slices of one image, in the order in which its source names them.

    Attributes:
        slices: At least one.
    """

    slices: tuple[RawSlice, ...]

    def __getitem__(self, number: int) -> RawSlice:
        return self.slices[number]

    @cached_property
    def corners(self) -> Vector:
        """The place of the first pixel of each slice, ``(slice, 3)``, in RAS mm."""
        return np.array([each.grid.affine[:3, 3] for each in self.slices])

    def nearest(self, world: Vector) -> int:
        """Returns the number of the slice whose plane lies nearest to a place.

        Args:
            world: RAS mm ``(3,)``.
        """
        normal = self.slices[0].grid.affine[:3, 2]
        return int(np.abs((self.corners - world) @ normal).argmin())

    def off_mm(self, grid: Geometry) -> float:
        """Returns how far a grid that the image was read on lies from where the files say, in mm.

        The first slice lies on the grid's first one, pixel on pixel, and the last on its last. The grid begins at the
        corner of the slices, but whole pixels before the first slice where a tilted gantry shifts the others.
        """
        index = grid.index(self.corners)
        first, last = int(index[:, 2].argmin()), int(index[:, 2].argmax())
        columns, rows, _ = self.slices[first].grid.shape
        far = grid.index(self.slices[first].grid.world((columns - 1, rows - 1, 0)))
        off = [
            (*_off_corner(index[:, 0], first), far[0] - index[first, 0] - (columns - 1)),
            (*_off_corner(index[:, 1], first), far[1] - index[first, 1] - (rows - 1)),
            (index[first, 2], index[last, 2] - (grid.shape[2] - 1), far[2] - index[first, 2]),
        ]
        return float((np.abs(off).max(axis=1) * grid.spacing).max())


def raw_slices(source: ImageSource) -> RawSlices | None:
    """Reads where the slices of a DICOM image lie, straight from its files.

    Returns:
        The slices; None where the files don't say where they lie, as those of X-rays.

    Raises:
        ValueError: Attributes make no sense. What pydicom raises comes as it is.
    """
    slices: dict[Path, Sequence[RawSlice] | None] = {}
    with config.disable_value_validation():
        for path in dict.fromkeys(source.files):
            slices[path] = _slices_of(path, path.stat().st_mtime_ns)
    chosen = []
    for path, frame in zip(source.files, source.frames or (0,) * len(source.files), strict=True):
        of_file = slices[path]
        if of_file is None:
            return None
        chosen.append(of_file[frame])
    return RawSlices(tuple(chosen))


def _off_corner(along: Vector, first: int) -> tuple[float, float]:
    """Returns by how many pixels the first slice is off a pixel of the grid, and all slices together off its border.

    Args:
        along: Where each slice begins on one axis of the grid.
        first: The number of the first slice.
    """
    if np.abs(along - along[first]).max() <= UPRIGHT:
        return along[first], 0.0
    return along[first] - np.rint(along[first]), along.min() - np.clip(along.min(), 0.0, 1.0)


@lru_cache(maxsize=1)  # the volumes of a 4D file are written one after the other
def _slices_of(path: Path, changed: int) -> Sequence[RawSlice] | None:
    header = dcmread(path, stop_before_pixels=True, specific_tags=TAGS, force=True)
    n_frames = len(header.get("PerFrameFunctionalGroupsSequence") or ())
    if not n_frames and "MOSAIC" in str(header.get("ImageType", "")).upper():
        grids = list(_tiles(path))
    else:
        places = [{keyword: _value(header, i, keyword) for keyword in GROUPS} for i in range(max(n_frames, 1))]
        is_projection = PROJECTIONS.fullmatch(str(header.get("SOPClassUID", "")))
        if is_projection or any(value is None for value in places[0].values()):
            return None
        grids = [_grid(int(header.Rows), int(header.Columns), place) for place in places]
    uid, frame_of_reference = str(header.SOPInstanceUID), str(header.get("FrameOfReferenceUID") or "")
    return [RawSlice(uid, i, frame_of_reference, grid) for i, grid in enumerate(grids)]


def _value(header: Dataset, frame: int, keyword: str) -> Any:
    """Returns the attribute of a frame's own group, else of the shared one; in a classic file, of its top.

    None where it is nowhere.
    """
    if "PerFrameFunctionalGroupsSequence" not in header:
        return header.get(keyword)
    for groups in (
        header.PerFrameFunctionalGroupsSequence[frame],
        *(header.get("SharedFunctionalGroupsSequence") or ()),
    ):
        for item in groups.get(GROUPS[keyword]) or ():
            if keyword in item:
                return item[keyword].value
    return None


def _grid(rows: int, columns: int, place: dict[str, Any]) -> Geometry:
    orientation = np.array([float(v) for v in place["ImageOrientationPatient"]]).reshape(2, 3)
    orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
    between_rows, between_columns = (float(v) for v in place["PixelSpacing"])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = orientation[0] * between_columns, orientation[1] * between_rows
    affine[:3, 2] = np.cross(*orientation)
    affine[:3, 3] = [float(v) for v in place["ImagePositionPatient"]]
    return Geometry((columns, rows, 1), LPS_TO_RAS @ affine)


def _tiles(path: Path) -> Iterator[Geometry]:
    """Yields the grid of each tile of a Siemens mosaic, by nibabel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its readers of DICOM experimental whenever they are imported
        from nibabel.nicom.dicomwrappers import wrapper_from_file

        mosaic = wrapper_from_file(path, force=True, stop_before_pixels=True)
    rows, columns, n_tiles = mosaic.image_shape[:3]
    between_rows, between_columns, between_tiles = mosaic.voxel_sizes
    for i in range(n_tiles):
        position = np.asarray(mosaic.image_position) + i * between_tiles * np.asarray(mosaic.slice_normal)
        place = {
            "ImagePositionPatient": position,
            "ImageOrientationPatient": np.asarray(mosaic.image_orient_patient).T.ravel(),
            "PixelSpacing": (between_rows, between_columns),
        }
        yield _grid(rows, columns, place)
