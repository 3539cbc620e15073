"""Voxels that lie in files just as they lie in memory, behind a header: NRRD and MetaImage."""

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, Literal

import numpy as np

from medseg.errors import GeometryError, SourceError
from medseg.io.declared_size import MOST_INFLATED, check_declared_size
from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.volume import Array, Geometry

Encoding = Literal["raw", "deflate", "text"]

LONGEST_HEADER = 2**22  # bytes; one with a thousand segments, or a list of ten thousand slices, has a tenth of it
LONGEST_NAMES = 2**12  # bytes of a line that says which files hold the voxels
MOST_FILES = 2**16
CHUNK = 2**20

PATTERN = re.compile(r"(?P<form>[^%]*%0?\d{0,2}d[^%]*?) +(?P<first>\d+) +(?P<last>\d+)(?: +(?P<step>-?\d+))?(?: +\d+)?")


@dataclass(frozen=True)
class RawImage:
    """What a header says of voxels that lie in files just as they lie in memory.

    Attributes:
        shape: ``(component, x, y)``, with z, and with further volumes, where there are such. It begins with the
            components of a pixel, also where it has one.
        dtype: With its byte order.
        geometry: The grid, in RAS mm.
        files: That hold voxels, each the same number.
        start: The byte in each file at which its voxels begin; -1 where they are the end of it.
        encoding: How the voxels are stored.
        components_last: Whether the components of a pixel are the last axis on disk.
        compressed_size: Bytes of the compressed voxels, where the header says it.
        has_place: Whether something says which way left and right are.
        unit: The unit of length, as the header calls it; no program converts it.
        keys: What else the header says.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    geometry: Geometry
    files: tuple[Path, ...]
    start: int
    encoding: Encoding = "raw"
    components_last: bool = False
    compressed_size: int | None = None
    has_place: bool = True
    unit: str = "mm"
    keys: Mapping[str, str] = field(default_factory=dict)


def read_raw_voxels(image: RawImage) -> Array:
    """Reads voxels ``(component, x, y, …)`` in native byte order.

    No more memory is taken than the voxels need before it is known that the files hold just them.

    Raises:
        ValueError: The files do not hold just these voxels. ``OSError`` and ``zlib.error`` come as they are.
        MemoryError: This machine cannot hold them.
    """
    stored = (*image.shape[1:], image.shape[0]) if image.components_last else image.shape
    if image.encoding == "text":
        values = _read_text(image)
    else:
        if prod(stored) % len(image.files):
            raise ValueError(f"{len(image.files)} files cannot hold voxels of shape {stored}")
        n_bytes = prod(stored) // len(image.files) * image.dtype.itemsize
        for file in image.files:
            _check_file(image, file, n_bytes)
        values = np.empty(prod(stored), image.dtype)
        place = values.view(np.uint8).data
        for i, file in enumerate(image.files):
            _read_file(image, file, place[i * n_bytes : (i + 1) * n_bytes])
    array = values.reshape(stored[::-1]).T
    array = np.moveaxis(array, -1, 0) if image.components_last else array
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_sizes(key: str, text: str, dimensions: str) -> list[int]:
    """Returns the length of each axis.

    Args:
        key: What the header calls the lengths, for messages.
        text: The lengths.
        dimensions: The number of axes.

    Raises:
        ValueError: There are not as many, or one is below 1.
    """
    sizes = [int(word) for word in text.split()]
    if len(sizes) != int(dimensions) or min(sizes, default=0) < 1:
        raise ValueError(f"{key} {text} in {dimensions} dimensions")
    return sizes


def check_axes(path: Path, n: int, sizes: Sequence[int]) -> None:
    """Checks that there are two to four axes in space and time.

    Args:
        path: For messages.
        n: How many axes there are.
        sizes: Of all axes, for messages.

    Raises:
        SourceError: There are too few or too many.
    """
    if n not in (2, 3, 4):
        raise SourceError(f"{path}: {n} axes {tuple(sizes)}; store two to four")


def grid_of(path: Path, sizes: Sequence[int], affine: np.ndarray) -> Geometry:
    """Returns the grid of a header, in RAS mm.

    Args:
        path: For messages.
        sizes: Voxels along two or more axes; what has two has one slice.
        affine: ``(4, 4)``, voxel index to LPS mm.

    Raises:
        GeometryError: The affine cannot be inverted.
    """
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise GeometryError(f"{path}: the affine in the header cannot be inverted: {affine[:3].tolist()}")
    x, y, z = (*sizes, 1)[:3]
    return Geometry((x, y, z), LPS_TO_RAS @ affine)


def named_files(header: Path, value: str, following: Sequence[str]) -> tuple[Path, ...]:
    """Returns the files that a header names for its voxels.

    Args:
        header: Beside which they lie.
        value: ``slices.raw``, ``slice%03d.raw 1 50 1`` or ``LIST``.
        following: The lines after it; of a list, the names.

    Raises:
        ValueError: A name leads out of the folder of the header, or there is none.
    """
    if len(value) > LONGEST_NAMES:
        raise ValueError("the names of its files are too long")
    names = [line.strip() for line in following if line.strip()] if value.split()[:1] == ["LIST"] else _numbered(value)
    for name in names:
        for path in (PurePosixPath(name), PureWindowsPath(name)):
            if path.is_absolute() or path.drive or ".." in path.parts or "\0" in name:
                raise ValueError(f"its voxels are said to lie in '{name}', which leads out of its folder")
    if not names:
        raise ValueError("it names no file for its voxels")
    return tuple(header.parent / name for name in names)


def _numbered(value: str) -> list[str]:
    """Returns the files of ``slice%03d.raw 1 50 1``; any other name as it is."""
    pattern = PATTERN.fullmatch(value)
    if pattern is None:
        return [value]
    first, last, step = int(pattern["first"]), int(pattern["last"]), int(pattern["step"] or 1)
    if step < 1 or not 0 <= last - first < step * MOST_FILES:
        raise ValueError(f"'{value}' are no files in their order")
    return [pattern["form"] % number for number in range(first, last + 1, step)]


def _check_file(image: RawImage, file: Path, n_bytes: int) -> None:
    if not file.is_file():
        raise ValueError(f"its voxels, {file.name}, are not there")
    there = file.stat().st_size - max(image.start, 0)
    if image.compressed_size is not None and image.compressed_size != there:
        raise ValueError(f"{image.compressed_size} compressed bytes are declared, and {there} are there")
    if image.encoding == "deflate":
        check_declared_size(n_bytes, there, ratio=MOST_INFLATED)
    else:
        check_declared_size(n_bytes, there, exactly=image.start >= 0)


def _read_file(image: RawImage, file: Path, place: memoryview) -> None:
    with file.open("rb") as stream:
        stream.seek(image.start if image.start >= 0 else -len(place), 0 if image.start >= 0 else 2)
        if image.encoding == "raw":
            if stream.readinto(place) != len(place):
                raise ValueError("it ends in the middle of its voxels")
            return
        end = 0
        for inflated in _inflated(stream):
            if end + len(inflated) > len(place):
                raise ValueError("it holds more voxels than are declared")
            place[end : end + len(inflated)] = inflated
            end += len(inflated)
        if end < len(place):
            raise ValueError("it ends in the middle of its voxels")


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    """Yields what zlib or gzip data hold, some megabytes at a time. Checksums are compared at the end."""
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    while chunk := stream.read(CHUNK):
        while chunk:
            if decompressor.eof:  # gzip may have several members
                decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            yield decompressor.decompress(chunk, 4 * CHUNK)
            chunk = decompressor.unconsumed_tail or decompressor.unused_data
    if not decompressor.eof:
        raise ValueError("it ends in the middle of its voxels")


def _read_text(image: RawImage) -> Array:
    (file,) = image.files
    with file.open("rb") as stream:
        stream.seek(image.start)
        words = stream.read().replace(b",", b" ").split()
    if len(words) != prod(image.shape):
        raise ValueError(f"{prod(image.shape)} numbers are declared, and {len(words)} are there")
    return np.array([(float if image.dtype.kind == "f" else int)(word) for word in words], image.dtype)
