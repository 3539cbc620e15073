"""Label maps in OME-Zarr read back chunk by chunk, from the files themselves."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from medseg.io.certificates.certificate import Certificate
from medseg.io.label_map_volume import LabelMapVolume
from medseg.records import read_object
from medseg.volume import GRID_TOLERANCE, Array, Box, Geometry

READER = "Zarr 3, chunk by chunk"
NUMBERS = {"uint8": "u1", "uint16": "<u2", "uint32": "<u4"}
# RFC 4 of OME-NGFF: the world axis of RAS, and the sign along it.
TO_RAS = {
    "right": (0, 1),
    "left": (0, -1),
    "anterior": (1, 1),
    "posterior": (1, -1),
    "superior": (2, 1),
    "inferior": (2, -1),
}


def check_ome_zarr(path: Path, segmented: LabelMapVolume) -> Certificate:
    """Reads a label map in OME-Zarr back and compares it with what it was to hold.

    Args:
        path: The folder of the store.
        segmented: What was to be written.
    """
    x, y, z = segmented.label_map.shape
    n_different = different_voxels(path, (slice(0, x), slice(0, y), slice(0, z)), segmented.label_map)
    return place_checked(path, segmented.geometry, n_different)


def place_checked(path: Path, place: Geometry, n_different: int) -> Certificate:
    """Returns the certificate of a store whose voxels were compared.

    Args:
        path: The folder of the store.
        place: Where the grid belongs.
        n_different: How many voxels were others than they should be.
    """
    group = _label_map(path)
    multiscale = read_object(group / "zarr.json")["attributes"]["ome"]["multiscales"][0]
    scale, translation = (each[each["type"]] for each in multiscale["datasets"][0]["coordinateTransformations"])
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, mm, start in zip(multiscale["axes"], scale, translation, strict=True):
        world, sign = TO_RAS[axis["orientation"]["value"].split("-to-")[1]]
        affine[world, "xyz".index(axis["name"])], affine[world, 3] = sign * mm, sign * start
    z, y, x = _array(group)["shape"]
    found = Geometry((x, y, z), affine)
    if found.shape != place.shape:
        return Certificate(READER, 0, 0, 0.0, 0.0, remark=f"it has {found.shape} voxels instead of {place.shape}")
    n, tolerance = int(np.prod(place.shape)), GRID_TOLERANCE * min(place.spacing)
    return Certificate(READER, n, n_different, place.distance(found), tolerance)


def different_voxels(path: Path, box: Box, label_map: Array) -> int:
    """Returns how many voxels of a box of a store are others than they should be.

    Args:
        path: The folder of the store.
        box: The part of it that is read.
        label_map: ``(x, y, z)`` of the box, as it should be.
    """
    return sum(int(np.count_nonzero(chunk != label_map[place])) for place, chunk in _chunks(_label_map(path), box))


def _chunks(group: Path, box: Box) -> Iterator[tuple[Box, Array]]:
    """Yields the parts of a box that lie in one chunk each: their place in the box, and what they hold."""
    from numcodecs.zstd import Zstd

    content = _array(group)
    edges = content["chunk_grid"]["configuration"]["chunk_shape"][::-1]
    dtype = np.dtype(NUMBERS[content["data_type"]])
    numbers = [range(part.start // n, -(-part.stop // n)) for part, n in zip(box, edges, strict=True)]
    for number in product(*numbers):
        file = group.joinpath("0", "c", *map(str, number[::-1]))
        chunk = np.zeros(edges, dtype)
        if file.is_file():
            chunk = np.frombuffer(Zstd().decode(file.read_bytes()), dtype).reshape(edges[::-1]).T
        starts = [i * n for i, n in zip(number, edges, strict=True)]
        parts = [
            slice(max(part.start, start), min(part.stop, start + n))
            for part, start, n in zip(box, starts, edges, strict=True)
        ]
        inner = tuple(slice(p.start - start, p.stop - start) for p, start in zip(parts, starts, strict=True))
        x, y, z = (slice(p.start - part.start, p.stop - part.start) for p, part in zip(parts, box, strict=True))
        yield (x, y, z), chunk[inner]


def _label_map(path: Path) -> Path:
    names = read_object(path / "labels" / "zarr.json")["attributes"]["ome"]["labels"]
    return path / "labels" / str(names[0])


def _array(group: Path) -> Any:
    return read_object(group / "0" / "zarr.json")
