"""What the arrays of a Zarr store are made of, looked at before anything is unpacked."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from medseg.errors import SourceError
from medseg.records import read_object

ARRAY_FILES = (".zarray", "zarr.json")  # of Zarr 2 and 3

# What packs numbers, and nothing else: "pickle" runs code of who wrote it.
KNOWN_CODECS = {
    "bytes", "transpose", "gzip", "zlib", "bz2", "lzma", "zstd", "blosc", "lz4", "crc32c", "crc32", "adler32",
    "sharding_indexed", "shuffle", "delta", "fixedscaleoffset", "bitround", "endian",
}  # fmt: skip
MOST_CHUNK_VOXELS = 2**30


def check_array(folder: Path) -> None:
    """Checks that an array holds numbers, and that nothing but numbers is made of its chunks.

    Raises:
        SourceError: It holds Python objects, or is packed by what medseg doesn't unpack.
    """
    name = next((name for name in ARRAY_FILES if (folder / name).is_file()), None)
    if name is None:
        raise SourceError(f"{folder}: holds no Zarr array; copy the store again")
    content = read_object(folder / name)
    kind = str(content.get("dtype", content.get("data_type", "")))
    if not kind.lstrip("<>|=").startswith(("u", "i", "f", "b1", "bool")):
        raise SourceError(f"{folder}: holds '{kind}', and no numbers; write it as integers or floats")
    unknown = [each for each in _codecs(content) if each.removeprefix("numcodecs.") not in KNOWN_CODECS]
    if unknown:
        raise SourceError(f"{folder}: is packed by '{unknown[0]}', which medseg does not unpack; write it with zstd")
    chunk = _chunk_shape(content)
    if not chunk or not 0 < prod(chunk) <= MOST_CHUNK_VOXELS:
        raise SourceError(f"{folder}: chunks of {'×'.join(map(str, chunk))} voxels; write it in chunks of 128×128×128")


def _codecs(content: Mapping[str, Any]) -> list[str]:
    """Returns the names of all codecs of an array of Zarr 2 or 3, those in shards too."""
    if "zarr_format" in content and content["zarr_format"] == 2:
        packed = [content.get("compressor"), *(content.get("filters") or ())]
        return [str(each.get("id")) for each in packed if isinstance(each, dict)]
    waiting = [content.get("codecs") or ()]
    found = []
    while waiting:
        for codec in waiting.pop():
            if not isinstance(codec, dict):
                found.append(str(codec))
                continue
            found.append(str(codec.get("name")))
            configuration = codec.get("configuration")
            if isinstance(configuration, dict):
                waiting += [
                    configuration[key] for key in ("codecs", "index_codecs") if isinstance(configuration.get(key), list)
                ]
    return found


def _chunk_shape(content: Mapping[str, Any]) -> list[int]:
    chunks = content.get("chunks")
    if chunks is None:
        grid = content.get("chunk_grid")
        configuration = grid.get("configuration") if isinstance(grid, dict) else None
        chunks = configuration.get("chunk_shape") if isinstance(configuration, dict) else None
    return [n for n in chunks if isinstance(n, int)] if isinstance(chunks, list) else []
