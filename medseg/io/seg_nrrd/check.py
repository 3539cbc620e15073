"""``.seg.nrrd`` read back through SimpleITK, segment by segment."""

import re
from collections.abc import Sequence
from itertools import count, takewhile
from pathlib import Path

import numpy as np

from medseg.io.certificates.certificate import Certificate
from medseg.io.certificates.voxels import VoxelsFound, compared, not_compared, read_by_itk
from medseg.io.label_map_volume import LabelMapVolume
from medseg.volume import Array


def check_seg_nrrd(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a ``.seg.nrrd`` back and compares voxels and names.

    Each segment of the file has to be the structure that it is named after.

    Args:
        path: The file.
        segmented: What was to be written.
    """
    found, structures = read_by_itk(path), segmented.labels.structures
    numbers = list(takewhile(lambda i: f"Segment{i}_ID" in found.keys, count()))
    names = [found.keys.get(f"Segment{i}_Name", "") for i in numbers]
    places = [_layer_and_value(found, i) for i in numbers]
    expected = [_in_a_line(structure.name) for structure in structures]
    right = len(names) == len(expected) and all(map(_is_named, names, expected))
    if not right or len({*names}) < len(names) or len({*places}) < len(names):
        found_places = dict(zip(names, places, strict=True))
        return not_compared(found, f"its segments are {found_places} instead of {', '.join(expected)}")
    tables = _tables(segmented, places, len(found.layers))
    return compared(found, segmented, [table.__getitem__ for table in tables], segmented.geometry)


def _layer_and_value(found: VoxelsFound, number: int) -> tuple[int, int]:
    return int(found.keys[f"Segment{number}_Layer"]), int(found.keys[f"Segment{number}_LabelValue"])


def _in_a_line(name: str) -> str:
    """Returns a name as a header of text can hold it: with a space for each control character."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", name)


def _is_named(name: str, expected: str) -> bool:
    """Says whether a name is the expected one; those that would be the same have a number."""
    return re.fullmatch(re.escape(expected) + r"(?: \(\d+\))?", name) is not None


def _tables(segmented: LabelMapVolume, places: Sequence[tuple[int, int]], n_layers: int) -> Array:
    """Returns the values that the segments of the file, in order, have in its layers: ``(layer, label value)``.

    Negative values count from the end, as indices do.
    """
    values = [0, *segmented.labels.values]
    tables = np.zeros((n_layers, max(values) + 1 - min(values)), dtype=np.int64)
    for structure, (layer, value) in zip(segmented.labels.structures, places, strict=True):
        tables[layer, list(structure.values)] = value
    return tables
