"""3D Slicer's segmentations (.seg.nrrd).

They are NRRD files with keys such as ``Segment0_Name`` (Slicer's documentation, "Segmentations", "Segmentation file
format"). Layers are the components of their pixels. Extents of segments and the offset in the reference image are not
needed: the header says where the stored voxels lie.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from medseg.errors import LabelError, SourceError
from medseg.io.nrrd.raw_image import LONGEST_HEADER
from medseg.io.nrrd.reader import open_itk, read_itk
from medseg.io.segmentation import (
    Segment,
    Segmentation,
    SegmentHeader,
    some_of,
    value_counts,
    with_unique_names,
)
from medseg.io.segments_on_grid import layers_on_grid
from medseg.structures import Colour
from medseg.terminology import Code
from medseg.volume import Array, Geometry

KEY = re.compile(r"Segment(\d{1,6})_(\w+)")
TERMINOLOGY = "TerminologyEntry:"
KEY_LINE = re.compile(rb"^Segment\d+_\w+:=", re.MULTILINE)
MOST_VALUES = 65535


def read_seg_nrrd(path: Path, grid: Geometry | None = None) -> Segmentation:
    """Reads the segments of a ``.seg.nrrd``.

    Args:
        path: The file.
        grid: Where the segments are placed, by their places in the world; None for the file's own grid.

    Raises:
        SourceError: The file is damaged.
        LabelError: Voxels are no labels.
        GeometryError: Segments reach out of ``grid``.
    """
    segments = _segments(path)
    volume = read_itk(path)
    missing = [segment.name for segment in segments if segment.layer >= len(volume.array)]
    if missing:
        raise SourceError(f"{path}: holds no voxels of {some_of(missing)}; save it again with 3D Slicer")
    layers = tuple(_layer(array, path) for array in volume.array)
    nameless = tuple(_nameless(layers, segments, path))
    if grid is None:
        return Segmentation(volume.geometry, layers, segments, nameless)
    placed, notes = layers_on_grid(layers, segments, volume.geometry, grid, path)
    return Segmentation(grid, placed, segments, (*nameless, *notes))


def seg_nrrd_headers(path: Path) -> tuple[SegmentHeader, ...]:
    """Reads numbers, names, colours and codes of the segments from the file's header alone.

    Raises:
        SourceError: The file cannot be read.
    """
    return _segments(path)


def holds_segments(path: Path) -> bool:
    """Says whether a NRRD file has the keys of segments, whatever its name is; False where it cannot be read."""
    try:
        with path.open("rb") as stream:
            header = stream.read(LONGEST_HEADER)
    except OSError:
        return False
    end = re.search(rb"\r?\n\r?\n", header)  # an empty line; voxels may follow
    return KEY_LINE.search(header[: end.start()] if end else header) is not None


def _segments(path: Path) -> tuple[Segment, ...]:
    """Returns the segments in the order of their keys.

    Slicer wrote a layer of zeros and ones for each segment before it knew layers.
    """
    described = _keys(path)
    if not described:
        raise SourceError(f"{path}: names no segments (Segment0_Name, …); is it a segmentation of 3D Slicer?")
    try:
        places = _places(described)
        headers = with_unique_names(
            [_header(keys, value) for keys, (_, value) in zip(described, places, strict=True)], "segment"
        )
    except ValueError as error:
        raise SourceError(f"{path}: its segments cannot be read ({error}); save it again with 3D Slicer") from error
    return tuple(Segment.of(header, *place) for header, place in zip(headers, places, strict=True))


def _places(described: Sequence[Mapping[str, str]]) -> list[tuple[int, int]]:
    """Returns the layer of each segment, and its value there. Raises ``ValueError`` for what can be neither."""
    with_layer = [keys for keys in described if "Layer" in keys]
    if with_layer and len(with_layer) < len(described):
        raise ValueError("some name their layer, others do not")
    places = [(int(keys.get("Layer", i)), int(keys.get("LabelValue", 1))) for i, keys in enumerate(described)]
    for layer, value in places:
        if layer < 0 or not 1 <= value <= MOST_VALUES:
            raise ValueError(f"the value {value} in layer {layer} is none")
    if len(set(places)) < len(places):
        raise ValueError("two have one value in one layer")
    return places


def _nameless(layers: Sequence[Array], segments: Sequence[Segment], path: Path) -> Iterator[str]:
    """Yields notes on voxels that no segment names."""
    named = {(segment.layer, segment.value) for segment in segments}
    for number, layer in enumerate(layers):
        counts = value_counts(layer)
        for value in np.flatnonzero(counts).tolist():
            if value and (number, value) not in named:
                yield f"{path.name}: voxels of value {value}, which it names no segment: {counts[value]}; left out"


def _keys(path: Path) -> list[dict[str, str]]:
    """Returns what the header says of each segment: ``{"Name": "liver", …}``."""
    keys = open_itk(path).keys
    segments: dict[int, dict[str, str]] = defaultdict(dict)
    for key, value in keys.items():
        if match := KEY.fullmatch(key):
            segments[int(match[1])][match[2]] = value
    return [segments[number] for number in sorted(segments)]


def _header(keys: Mapping[str, str], value: int) -> SegmentHeader:
    name = keys.get("Name") or keys.get("ID") or ""
    return SegmentHeader(value, name, colour=_colour(keys.get("Color")), **_codes(keys.get("Tags", "")))


def _colour(text: str | None) -> Colour | None:
    """Returns the colour of a text such as ``"0.5 0.68 0.5"``."""
    if text is None:
        return None
    red, green, blue = (round(255 * min(max(float(part), 0.0), 1.0)) for part in text.split())
    return red, green, blue


def _codes(tags: str) -> dict[str, Code | None]:
    """Returns the codes in ``TerminologyEntry:context~SCT^123037004^Anatomical
    Structure~SCT^10200004^Liver~^^~…|other:tag``."""
    entries = [tag.removeprefix(TERMINOLOGY) for tag in tags.split("|") if tag.startswith(TERMINOLOGY)]
    _, category, type_, modifier = ([*entries[0].split("~"), "", "", ""] if entries else [""] * 4)[:4]
    return {"category": _code(category), "type": _code(type_), "modifier": _code(modifier)}


def _code(text: str) -> Code | None:
    parts = text.split("^")
    if len(parts) != 3 or not parts[1]:
        return None
    scheme, value, meaning = parts
    return Code(scheme=scheme, value=value, meaning=meaning)


def _layer(array: Array, path: Path) -> Array:
    if array.dtype.kind == "f" or array.min() < 0 or array.max() > MOST_VALUES:
        raise LabelError(f"{path}: holds {array.dtype} values from {array.min()} to {array.max()}, which are no labels")
    return np.asfortranarray(array)
