"""The slices that lie in one DICOM file: one, the frames of an enhanced object, or the tiles of a mosaic.

Each is given a header of its own that reads like that of a classic file with one slice, so that nothing else has to
know in which of the three ways it is stored.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom import Dataset, dcmread

from medseg.errors import SourceError
from medseg.volume import Array

FRAME_KEYWORDS = (
    "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "DimensionIndexSequence",
)  # fmt: skip

# Siemens' private tag in which nibabel finds the number of tiles and the normal of the slices.
CSA_HEADER = 0x00291010

# Groups that say where a frame came from: their tags are another image's.
OTHER_IMAGES = ("ReferencedImageSequence", "DerivationImageSequence", "ConversionSourceAttributesSequence")

# What a tile has of its own.
OF_MOSAIC = ("Rows", "Columns", "ImagePositionPatient")


class Mosaic(NamedTuple):
    """Slices side by side in one image, in rows of ``n_across``."""

    n_tiles: int
    normal: tuple[float, float, float]  # the way from slice to slice, LPS

    @property
    def n_across(self) -> int:
        return math.ceil(math.sqrt(self.n_tiles))


def frame_headers(header: Dataset, path: Path) -> list[Dataset]:
    """A header for each slice in the file. Raises ``SourceError`` where the slices cannot be told."""
    if is_mosaic(header):
        mosaic = read_mosaic(path)
        return [_tile(header, mosaic, i) for i in range(mosaic.n_tiles)]
    if "PerFrameFunctionalGroupsSequence" in header:
        return _functional_groups(header)
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise SourceError(
            f"{path}: {header.NumberOfFrames} frames without functional groups ({header.SOPClassUID.name}), so where "
            "each lies in the patient is unknown; export the series as CT, MR or PET images"
        )
    return [header]


def frame_values(stored: Array, header: Dataset, path: Path) -> Array:
    """Stored values of a file as ``(slice, row, column)``, in the order of ``frame_headers``."""
    if not is_mosaic(header):
        return stored[None] if stored.ndim == 2 else stored
    mosaic = read_mosaic(path)
    across = mosaic.n_across
    rows, columns = stored.shape[0] // across, stored.shape[1] // across
    tiles = stored.reshape(across, rows, across, columns).swapaxes(1, 2)
    return tiles.reshape(-1, rows, columns)[: mosaic.n_tiles]


def is_mosaic(header: Dataset) -> bool:
    image_type = header.get("ImageType") or ()
    return "MOSAIC" in str(image_type).upper() and "PerFrameFunctionalGroupsSequence" not in header


def read_mosaic(path: Path) -> Mosaic:
    """From Siemens' private header. Raises ``SourceError`` when an anonymiser has removed it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its readers of DICOM experimental whenever they are imported
        from nibabel.nicom.csareader import read as read_csa

    header = dcmread(path, stop_before_pixels=True, specific_tags=[CSA_HEADER], force=True)
    try:
        csa = read_csa(header[CSA_HEADER].value)["tags"]
        x, y, z = (float(v) for v in csa["SliceNormalVector"]["items"][:3])
        return Mosaic(int(csa["NumberOfImagesInMosaic"]["items"][0]), (x, y, z))
    except Exception as error:  # nibabel's parser raises many kinds on a damaged header
        raise SourceError(
            f"{path}: a Siemens mosaic (many slices in one image) without the private tag (0029,1010) that says how "
            "many slices it has and where they lie; export it again without removing private tags"
        ) from error


def _functional_groups(header: Dataset) -> list[Dataset]:
    """PS3.3, C.7.6.16: what a frame's own groups don't say, the shared ones do, and else the file's header."""
    common = {element.keyword: element.value for element in header if element.VR != "SQ"}
    for shared in header.get("SharedFunctionalGroupsSequence") or ():
        common |= _flat(shared)
    pointers = _dimensions(header)
    headers = []
    for groups in header.PerFrameFunctionalGroupsSequence:
        values = common | _flat(groups)
        indices = _several(values.get("DimensionIndexValues"))
        # A pointer's own tag, where a frame has it, says more than its index.
        values = dict(zip(pointers, indices, strict=False)) | values
        frame = Dataset()
        for keyword, value in values.items():
            if keyword:
                setattr(frame, keyword, value)
        headers.append(frame)
    return headers


def _flat(groups: Dataset) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for element in groups:
        if element.VR != "SQ":
            values[element.keyword] = element.value
        elif element.keyword not in OTHER_IMAGES and len(element.value) == 1:
            values |= _flat(element.value[0])
    return values


def _dimensions(header: Dataset) -> list[str]:
    """Keywords of the attributes that the frames are sorted by; empty for private ones."""
    from pydicom.datadict import keyword_for_tag

    sequence = header.get("DimensionIndexSequence") or ()
    return [keyword_for_tag(item.get("DimensionIndexPointer") or 0) for item in sequence]


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _tile(header: Dataset, mosaic: Mosaic, i: int) -> Dataset:
    """The header of one slice. ImagePositionPatient is that of an image as large as the mosaic around the same
    centre as the first slice (nibabel's documentation, "Siemens mosaic format")."""
    tile = Dataset()
    tile.update({element.tag: element for element in header if element.keyword not in OF_MOSAIC})
    tile.Rows, tile.Columns = header.Rows // mosaic.n_across, header.Columns // mosaic.n_across
    orientation = np.array([float(v) for v in header.ImageOrientationPatient])
    between_rows, between_columns = (float(v) for v in header.PixelSpacing)
    position = np.array([float(v) for v in header.ImagePositionPatient])
    position += orientation[:3] * between_columns * (header.Columns - tile.Columns) / 2
    position += orientation[3:] * between_rows * (header.Rows - tile.Rows) / 2
    step = float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1)
    position += np.array(mosaic.normal) * step * i
    tile.ImagePositionPatient = position.tolist()
    return tile
