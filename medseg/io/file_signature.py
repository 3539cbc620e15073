"""What kind of file it is by its first bytes, whatever its name says."""

import gzip
import zlib
from pathlib import Path
from typing import Literal

HEAD_BYTES = 352  # a NIfTI-1 header and what says whether extensions follow

NIFTI_MAGIC = {b"n+1": ".nii", b"n+2": ".nii", b"ni1": ".hdr", b"ni2": ".hdr"}
ANALYZE_BYTES = 348
ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")

MARK_BYTES = 2**15

# First bytes of the formats that have such, and the suffix that each is known by.
MAGIC = {
    b"NRRD000": ".nrrd",
    b"ObjectType": ".mha",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",  # BigTIFF
    b"MM\0+": ".tif",
}


def content_suffix(path: Path) -> str:
    """Returns the suffix that the content of a file calls for: ``".nii"``, ``".nii.gz"``, ``".dcm"``, ….

    It is empty for what is no image, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as stream:
                return {".nii": ".nii.gz", ".hdr": ".hdr"}.get(_nifti_suffix(stream.read(HEAD_BYTES)), "")
    except (OSError, EOFError, zlib.error):
        return ""
    if head[128:132] == b"DICM":
        return ".dcm"
    return _nifti_suffix(head) or next((suffix for magic, suffix in MAGIC.items() if head.startswith(magic)), "")


def content_mark(path: Path) -> tuple[int, int]:
    """Returns the size and a checksum of some bytes in the middle and at the end of a file.

    They are equal for copies of a file, whatever their names, and all but never for different images.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size // 2 - MARK_BYTES // 2))
        middle = stream.read(MARK_BYTES)
        stream.seek(max(0, size - MARK_BYTES))
        return size, zlib.crc32(stream.read(), zlib.crc32(middle))


def _nifti_suffix(head: bytes) -> str:
    """Returns the suffix that the first bytes of a NIfTI or Analyze file call for; empty for others.

    ``n+1`` and ``n+2`` are whole files, ``ni1`` and ``ni2`` headers whose voxels lie in an .img beside them, as do
    those of Analyze, which has its own size as its only mark.
    """
    magic = head[344:347] if head[4:6] != b"n+" and head[4:6] != b"ni" else head[4:7]
    is_analyze = len(head) >= ANALYZE_BYTES and ANALYZE_BYTES in (int.from_bytes(head[:4], o) for o in ORDERS)
    return NIFTI_MAGIC.get(magic, ".hdr" if is_analyze else "")
