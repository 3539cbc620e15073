"""Arrays as nnInteractive's protocol sends them: a header, and chunks that blosc2 compressed.

    "NNIA", version 1, codec (1 byte: 1 zstd, 2 lz4), number of axes, length of the type's name, the name, the shape
    (int64 each), number of chunks (uint32); of each chunk its length, its compressed length (uint64 each), its bytes.

All numbers are little-endian.
"""

import struct
from math import prod

import blosc2
import numpy as np

from medseg.volume import Array

MAGIC, VERSION = b"NNIA", 1
CODECS = {1: blosc2.Codec.ZSTD, 2: blosc2.Codec.LZ4}
CODEC, LEVEL = 2, 5  # of masks, which are mostly zeros: lz4 takes a tenth of the time

LONGEST_CHUNK = 2**30  # bytes; blosc2 takes less than 2**31 at once
MOST_AXES = 4
TYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"
)  # fmt: skip

_START, _CHUNK = struct.Struct("<4sBBBB"), struct.Struct("<QQ")


def pack(array: Array) -> bytes:
    """Returns an array as the protocol sends it.

    Examples:
        >>> import numpy as np
        >>> unpack(pack(np.array([[0, 1], [1, 0]], np.uint8)), 4).tolist()
        [[0, 1], [1, 0]]
    """
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    name, raw = array.dtype.name.encode(), array.reshape(-1).data.cast("B")
    starts = range(0, len(raw), LONGEST_CHUNK)
    parts = [
        _START.pack(MAGIC, VERSION, CODEC, array.ndim, len(name)),
        name,
        struct.pack(f"<{array.ndim}qI", *array.shape, len(starts)),
    ]
    for start in starts:
        chunk = raw[start : start + LONGEST_CHUNK]
        # A type size that does not divide the length makes frames of zeros that blosc2 itself cannot read.
        packed = blosc2.compress2(
            chunk, typesize=array.itemsize, codec=CODECS[CODEC], clevel=LEVEL, filters=[blosc2.Filter.NOFILTER]
        )
        parts += [_CHUNK.pack(len(chunk), len(packed)), packed]
    return b"".join(parts)


def unpack(content: bytes, largest: int) -> Array:
    """Returns the array that a client sent.

    Args:
        content: What the client sent.
        largest: Bytes that the array may have.

    Raises:
        ValueError: It is no such array, of another type, or larger.
    """
    try:
        magic, version, codec, axes, length = _START.unpack_from(content)
        place = _START.size + length
        name = content[_START.size : place].decode("ascii", "replace")
        if magic != MAGIC or version != VERSION or codec not in CODECS:
            raise ValueError("it is no packed array of version 1")
        if name not in TYPES or not 1 <= axes <= MOST_AXES:
            raise ValueError(f"arrays of type '{name[:20]}' with {axes} axes are not taken")
        *shape, chunks = struct.unpack_from(f"<{axes}qI", content, place)
        place += 8 * axes + 4
        dtype = np.dtype(name).newbyteorder("<")
        if min(shape) < 1 or prod(shape) * dtype.itemsize > largest:
            raise ValueError(f"an array of {'×'.join(map(str, shape))} {name} is not taken")
        array = np.empty(prod(shape), dtype)
        _fill(array.data.cast("B"), content, place, chunks, dtype.itemsize)
        return array.reshape(shape)
    except struct.error as error:
        raise ValueError("it is cut short") from error


def _fill(target: memoryview, content: bytes, place: int, chunks: int, itemsize: int) -> None:
    """Fills memory with the chunks that begin at a place.

    Raises:
        ValueError: They are not as many bytes as were declared.
    """
    filled, view = 0, memoryview(content)
    for _ in range(chunks):
        length, packed_length = _CHUNK.unpack_from(content, place)
        place += _CHUNK.size
        packed = view[place : place + packed_length]
        if len(packed) != packed_length or filled + length > len(target) or length % itemsize:
            raise ValueError("its chunks do not fit its shape")
        try:
            if blosc2.get_cbuffer_sizes(packed)[0] != length:
                raise ValueError("a chunk holds another number of bytes than it says")
            blosc2.decompress2(packed, dst=target[filled : filled + length])
        except (RuntimeError, TypeError) as error:
            raise ValueError("a chunk is damaged") from error
        filled, place = filled + length, place + packed_length
    if filled != len(target):
        raise ValueError("its chunks do not fit its shape")
