"""Label maps as 3D Slicer's segmentations, ``.seg.nrrd``.

The fields are those of Slicer's developer guide ("Segmentation labelmap file format"). It is written here, since pynrrd
knows names in ASCII only.
"""

import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from medseg.files import written_whole
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.nrrd.writer import COMPRESSION, MAGIC, image_fields
from medseg.io.structure_names import storable_text, text_names
from medseg.structures import Region
from medseg.terminology import Code
from medseg.volume import Array

TERMINOLOGY = "Segmentation category and type - 3D Slicer General Anatomy list"
ANATOMY = "Anatomic codes - DICOM master list"

LABEL_MAP, SURFACE = "Binary labelmap", "Closed surface"  # Slicer's names of representations


def write_seg_nrrd(path: Path, segmented: LabelMapVolume, with_surfaces: bool = False) -> list[Path]:
    """Writes a ``.seg.nrrd`` with a segment for each label and region, with name, colour and terminology.

    Labels keep their values. Regions overlap their labels, so they go into further layers (a first axis, of kind
    "list"); a region's value is that of its first label.

    Args:
        path: Where to.
        segmented: The label map with its grid and labels.
        with_surfaces: Whether 3D Slicer makes surfaces when it opens the file, which 3D needs.

    Returns:
        The file.

    Raises:
        OutputError: The file cannot be written.
    """
    representations = (LABEL_MAP, SURFACE) if with_surfaces else (LABEL_MAP,)
    structures = segmented.labels.structures
    layers, names = _layers(structures), text_names([structure.name for structure in structures])
    extents = _extents(_slices(segmented, layers), segmented.geometry.shape, len(layers))
    fields = [
        *image_fields(segmented.geometry, _dtype(segmented), len(layers)),
        f"Segmentation_MasterRepresentation:={LABEL_MAP}",
        f"Segmentation_ContainedRepresentationNames:={''.join(f'{name}|' for name in representations)}",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
        *_segment_fields(structures, names, layers, extents),
    ]
    with written_whole(path) as temporary, temporary.open("wb") as stream:
        stream.write("\n".join([MAGIC, *fields, "", ""]).encode())
        with gzip.GzipFile("", "wb", COMPRESSION, stream, mtime=0) as compressed:
            for slice_ in _slices(segmented, layers):
                compressed.write(slice_.tobytes(order="F"))
    return [path]


def _layers(structures: Sequence[Region]) -> list[list[Region]]:
    """Returns structures in layers: each goes into the first one where it overlaps none of those before."""
    layers: list[list[Region]] = [[]]
    for structure in structures:
        for layer in layers:
            if not any(set(structure.values) & set(other.values) for other in layer):
                layer.append(structure)
                break
        else:
            layers.append([structure])
    return layers


def _dtype(segmented: LabelMapVolume) -> np.dtype:
    """Returns the smallest type that holds all values."""
    values = [0, *segmented.labels.values]
    lowest, highest = min(values), max(values)
    return np.result_type(np.min_scalar_type(lowest), np.min_scalar_type(-1 - highest if lowest < 0 else highest))


def _slices(segmented: LabelMapVolume, layers: Sequence[Sequence[Region]]) -> Iterator[Array]:
    """Yields the voxels ``(layer, x, y)`` of each z."""
    lowest, highest = int(segmented.label_map.min()), int(segmented.label_map.max())
    # Negative values count from the end, as indices do.
    table = np.zeros((len(layers), max(highest, 0) + 1 - min(lowest, 0)), dtype=_dtype(segmented))
    for number, layer in enumerate(layers):
        for structure in layer:
            present = [value for value in structure.values if lowest <= value <= highest]
            table[number, present] = structure.values[0]
    for slice_ in np.moveaxis(segmented.label_map, -1, 0):
        yield table[:, slice_]


def _extents(slices: Iterator[Array], shape: tuple[int, int, int], n_layers: int) -> list[str]:
    """Returns the box around each layer.

    Slicer cuts all segments of a layer to the extent of the first, so all get the one of their layer, as when Slicer
    itself writes them.
    """
    used = [np.zeros((n_layers, n), dtype=bool) for n in shape]
    for z, slice_ in enumerate(slices):
        used[0] |= slice_.any(axis=2)
        used[1] |= slice_.any(axis=1)
        used[2][:, z] = slice_.any(axis=(1, 2))
    ends = [[np.flatnonzero(along[layer]) for along in used] for layer in range(n_layers)]
    return [" ".join(f"{axis[0]} {axis[-1]}" if len(axis) else "0 -1" for axis in layer) for layer in ends]


def _segment_fields(
    structures: Sequence[Region], names: Sequence[str], layers: Sequence[Sequence[Region]], extents: Sequence[str]
) -> Iterator[str]:
    layer_of = {structure.name: number for number, layer in enumerate(layers) for structure in layer}
    for i, (structure, name) in enumerate(zip(structures, names, strict=True)):
        layer = layer_of[structure.name]
        fields = {
            "ID": f"Segment_{i + 1}",
            "Name": name,
            "NameAutoGenerated": 0,
            "Color": " ".join(f"{channel / 255:.6f}" for channel in structure.colour),
            "ColorAutoGenerated": 0,
            "Extent": extents[layer],
            "Layer": layer,
            "LabelValue": structure.values[0],
            "Tags": f"TerminologyEntry:{_terminology(structure)}|",
        }
        yield from (f"Segment{i}_{key}:={_escaped(str(value))}" for key, value in fields.items())


def _terminology(structure: Region) -> str:
    coding = structure.coding
    of_type = [_triplet(coding.category), _triplet(coding.type), _triplet(coding.modifier)]
    return "~".join([TERMINOLOGY, *of_type, ANATOMY, _triplet(None), _triplet(None)])


def _triplet(code: Code | None) -> str:
    parts = ("", "", "") if code is None else (code.scheme, code.value, code.meaning)
    return "^".join(re.sub(r"[~^|]", " ", part) for part in parts)


def _escaped(value: str) -> str:
    return storable_text(value).replace("\\", "\\\\")
