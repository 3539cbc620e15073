"""Masks of voxels read back: NIfTI, .seg.nrrd and pictures, through SimpleITK."""

import gzip
import re
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL
from PIL import Image, ImageOps, ImageSequence

from medseg.io.masks.certificate import Certificate, together
from medseg.io.masks.raw_slices import LPS_TO_RAS
from medseg.io.masks.segmented import Segmented
from medseg.volume import GRID_TOLERANCE, Array, Geometry

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

Expected = Callable[[Array], Array]  # what (x, y) of a layer hold, where the label map holds the (x, y) given

# NIfTI-1 (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h): datatype, and what it is in numpy.
NIFTI_UNITS = {1: 1000.0, 3: 0.001}  # code of xyzt_units: mm of a metre, and of a micrometre
NIFTI_TYPES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 256: "i1", 512: "<u2", 768: "<u4"}


@dataclass(frozen=True)
class Found:
    """What a reader sees in a file: ``layers`` (layer, x, y, z) on ``geometry``, and the keys of its header."""

    reader: str
    layers: Array
    geometry: Geometry
    keys: dict[str, str] = field(default_factory=dict)
    image: object = None  # SimpleITK's, in whose memory the layers lie


def check_nifti(path: Path, segmented: Segmented) -> Certificate:
    return _check_nifti(path, segmented, np.asarray)


def check_nifti_per_label(folder: Path, segmented: Segmented) -> Certificate:
    files = segmented.files(folder, ".nii.gz")
    return together([_check_nifti(path, segmented, partial(np.isin, test_elements=s.values)) for s, path in files])


def check_seg_nrrd(path: Path, segmented: Segmented) -> Certificate:
    """Names too: each segment of the file has to be the structure that it is named after."""
    found, structures = _read_itk(path), segmented.labels.structures
    numbers = list(takewhile(lambda i: f"Segment{i}_ID" in found.keys, count()))
    names = [found.keys.get(f"Segment{i}_Name", "") for i in numbers]
    places = [_layer_and_value(found, i) for i in numbers]
    expected = [_in_a_line(structure.name) for structure in structures]
    right = len(names) == len(expected) and all(map(_is_named, names, expected))
    if not right or len({*names}) < len(names) or len({*places}) < len(names):
        found_places = dict(zip(names, places, strict=True))
        return _nothing(found, f"its segments are {found_places} instead of {', '.join(expected)}")
    tables = _tables(segmented, places, len(found.layers))
    return _compared(found, segmented, [table.__getitem__ for table in tables], segmented.geometry)


def check_picture(path: Path, segmented: Segmented) -> Certificate:
    """SimpleITK does not go by the orientation of a photograph, so that a mask which is stored as one is turned by
    Pillow. It has to have the orientation of its image."""
    found, source = _read_itk(path), segmented.source
    if source is not None and source.kind == "image2d" and (turn := _orientation(source.path)) != 1:
        if _orientation(path) != turn:
            return _nothing(found, "it is not stored in the orientation of its image")
        found = _read_shown(path)
    return _compared(found, segmented, [np.asarray], found.geometry)  # pictures have no place in the world


def _check_nifti(path: Path, segmented: Segmented, expected: Expected) -> Certificate:
    """SimpleITK may place a file by its qform, where nibabel goes by the sform, and other readers do either. So what
    was written on a NIfTI image has to lie where the same reader sees the image."""
    try:
        found = _read_itk(path)
    except RuntimeError:  # as when axes are not exactly at right angles
        return _compared(_read_nifti(path), segmented, [expected], segmented.geometry)
    source, place = segmented.source, segmented.geometry
    if source is not None and source.kind == "nifti":
        with suppress(RuntimeError):  # as of an old header without a place
            place = _itk_geometry(source.path)
    return _compared(found, segmented, [expected], place)


def _compared(found: Found, segmented: Segmented, expected: Sequence[Expected], place: Geometry) -> Certificate:
    """Each layer with what is expected of it, slice by slice."""
    label_map = segmented.label_map
    if found.layers.shape != (len(expected), *label_map.shape):
        return _nothing(found, f"it has {found.layers.shape} voxels instead of {(len(expected), *label_map.shape)}")
    n_different = sum(
        int(np.count_nonzero(layer[..., z] != hold(label_map[..., z])))
        for layer, hold in zip(found.layers, expected, strict=True)
        for z in range(label_map.shape[2])
    )
    return Certificate(
        reader=found.reader,
        n_voxels=found.layers.size,
        n_different=n_different,
        max_distance_mm=place.distance(found.geometry),
        tolerance_mm=GRID_TOLERANCE * min(place.spacing),
    )


def _nothing(found: Found, remark: str) -> Certificate:
    return Certificate(found.reader, 0, 0, 0.0, 0.0, remark=remark)


def _layer_and_value(found: Found, number: int) -> tuple[int, int]:
    return int(found.keys[f"Segment{number}_Layer"]), int(found.keys[f"Segment{number}_LabelValue"])


def _in_a_line(name: str) -> str:
    """As a header of text can hold it: with a space for each control character."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", name)


def _is_named(name: str, expected: str) -> bool:
    """Those that would be the same have a number."""
    return re.fullmatch(re.escape(expected) + r"(?: \(\d+\))?", name) is not None


def _tables(segmented: Segmented, places: Sequence[tuple[int, int]], n_layers: int) -> Array:
    """(layer, label value): the values that the segments of the file, in order, have in its layers. Negative ones count
    from the end, as indices do."""
    values = [0, *segmented.labels.values]
    tables = np.zeros((n_layers, max(values) + 1 - min(values)), dtype=np.int64)
    for structure, (layer, value) in zip(segmented.labels.structures, places, strict=True):
        tables[layer, list(structure.values)] = value
    return tables


def _read_itk(path: Path) -> Found:
    """Raises ``RuntimeError`` for what SimpleITK cannot read."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    image = reader.Execute()
    array = SimpleITK.GetArrayViewFromImage(image).T  # axes from the fastest: component, x, y, z
    layers = array if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    return Found(
        reader=f"SimpleITK {SimpleITK.Version.VersionString()}",
        layers=layers[..., None] if image.GetDimension() == 2 else layers,
        geometry=_geometry_of(reader),
        keys={key: image.GetMetaData(key) for key in image.GetMetaDataKeys()},
        image=image,
    )


def _orientation(path: Path) -> int:
    """EXIF's, or that of TIFF; 1 for pictures that are stored upright, or that Pillow cannot read."""
    try:
        with Image.open(path) as image:
            return int(image.getexif().get(0x0112, 1))
    except OSError:
        return 1


def _read_shown(path: Path) -> Found:
    """A picture as viewers turn it."""
    with Image.open(path) as image:  # of TIFF Pillow turns every page as it reads it
        pages = [np.asarray(ImageOps.exif_transpose(page)) for page in ImageSequence.Iterator(image)]
    layer = np.stack(pages).T
    x, y, z = layer.shape
    return Found(f"Pillow {PIL.__version__}", layer[None], Geometry((x, y, z), np.eye(4)))


def _itk_geometry(path: Path) -> Geometry:
    """Raises ``RuntimeError`` for what SimpleITK cannot read."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return _geometry_of(reader)


def _geometry_of(reader: "ImageFileReader") -> Geometry:
    """Of the first three axes."""
    n, spatial = reader.GetDimension(), min(reader.GetDimension(), 3)
    affine = np.eye(4)
    directions = np.reshape(reader.GetDirection(), (n, n)) * reader.GetSpacing()
    affine[:spatial, :spatial] = directions[:spatial, :spatial]
    affine[:spatial, 3] = reader.GetOrigin()[:spatial]
    x, y, z = (*reader.GetSize(), 1)[:3]
    return Geometry((x, y, z), LPS_TO_RAS @ affine)


def _read_nifti(path: Path) -> Found:
    """The bytes of a NIfTI-1 file with an sform, little-endian, as medseg writes them."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    _, *shape = struct.unpack_from("<4h", content, 40)
    (datatype,) = struct.unpack_from("<h", content, 70)
    (start,) = struct.unpack_from("<f", content, 108)
    to_mm = NIFTI_UNITS.get(content[123] % 8, 1.0)
    affine = np.vstack([np.reshape(struct.unpack_from("<12f", content, 280), (3, 4)) * to_mm, (0, 0, 0, 1)])
    voxels = np.frombuffer(content, NIFTI_TYPES[datatype], int(np.prod(shape)), int(start))
    x, y, z = shape
    return Found("NIfTI-1, byte by byte", voxels.reshape(1, x, y, z, order="F"), Geometry((x, y, z), affine))
