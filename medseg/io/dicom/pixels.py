"""The pixels of a DICOM file: whether they can be what its header says, and the stored values of its frames.

Where the header allows two readings, independent readers take different ones: that is an error here, not a guess.
"""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGExtended12Bit

from medseg.errors import MedsegError, SourceError, reason_of
from medseg.io.dicom.header import FILES_KEPT, FileHeader
from medseg.volume import Array

PIXEL_KEYWORDS = (
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation", "SamplesPerPixel",
)  # fmt: skip

BITS_ALLOCATED = (1, 8, 16, 32, 64)
LONGEST_EDGE = 2**16 - 1

# No codec makes images of tissue this much smaller: such a header asks for memory that the file cannot fill.
MOST_COMPRESSED = 10_000

get_decoder(JPEGExtended12Bit).add_plugin("medseg", ("medseg.io.dicom.jpeg_extended", "decode_frame"))


def check_pixels(file: FileHeader) -> None:
    """Checks that the pixels of a file are all there, and that the header does not say two things about them.

    Raises:
        SourceError: They are not, or it does.
    """
    check_pixel_bytes(file)
    if file.pixels is not None and file.pixels.keyword == "PixelData":
        _check_bits(file)


def check_pixel_bytes(file: FileHeader) -> None:
    """Compares what the header tells of with the bytes that are there, before anything of that size is made.

    Raises:
        SourceError: The file cannot hold it.
    """
    rows, columns, allocated = (_needed(file, name) for name in ("Rows", "Columns", "BitsAllocated"))
    n_frames = _n_frames(file)
    if not (1 <= rows <= LONGEST_EDGE and 1 <= columns <= LONGEST_EDGE and n_frames >= 1):
        raise _contradiction(file, f"{n_frames} frames of {columns}×{rows} pixels")
    if allocated not in BITS_ALLOCATED:
        raise _contradiction(file, f"BitsAllocated is {allocated} instead of {', '.join(map(str, BITS_ALLOCATED))}")
    if file.pixels is None:
        raise _damaged(file, "there are none")
    if file.syntax == DeflatedExplicitVRLittleEndian:
        return  # nobody knows before they are inflated
    needed, there = -(-rows * columns * allocated * n_frames // 8), file.size - file.pixels.offset
    if file.pixels.length is None:
        if needed > there * MOST_COMPRESSED:
            raise _damaged(file, f"{there} bytes cannot hold the {needed / 1e9:.3g} GB that the header tells of")
    elif min(there, file.pixels.length) < needed:
        raise _damaged(file, f"{min(there, file.pixels.length)} bytes instead of {needed}")
    elif file.pixels.length >= needed * (n_frames + 1) / n_frames:
        held = file.pixels.length * n_frames // needed
        raise _contradiction(file, f"NumberOfFrames is {n_frames}, and there are pixels for {held} frames")


def read_frames(file: FileHeader, frames: Sequence[int]) -> list[Array]:
    """Reads the stored values ``(row, column)`` of some frames; only these are decoded.

    Args:
        file: The header of the file.
        frames: Their numbers, from 0.

    Raises:
        SourceError: Pixels are missing or damaged, or cannot be decoded.
    """
    check_pixels(file)
    try:
        if file.syntax == DeflatedExplicitVRLittleEndian:
            return _decoded(file, BytesIO(_inflated(file)), frames)
        with file.path.open("rb") as stream:
            stream.seek(file.pixels.offset if file.pixels else 0)
            return _decoded(file, stream, frames)
    except MedsegError:
        raise
    except Exception as error:  # pydicom and the codecs raise many kinds on damaged pixels
        if isinstance(error, NotImplementedError) or "missing dependencies" in str(error):
            raise SourceError(
                f"{file.path}: pixel data in transfer syntax '{file.syntax.name}' cannot be decoded; "
                "convert it, for instance with gdcmconv --raw, or export it uncompressed"
            ) from error
        raise _damaged(file, reason_of(error)) from error


def _decoded(file: FileHeader, stream: BinaryIO, frames: Sequence[int]) -> list[Array]:
    """Decodes frames of a stream that is where the pixels begin."""
    options = _options(file)
    if file.pixels is not None and file.pixels.length is None and options["number_of_frames"] > 1:
        options["extended_offsets"] = _offsets(file)
    decoded = get_decoder(file.syntax).iter_array(stream, indices=frames, raw=True, **options)
    return [array for array, _ in decoded]


def _options(file: FileHeader) -> dict[str, Any]:
    """Returns the options of pydicom's decoders."""
    allocated = _needed(file, "BitsAllocated")
    stored = file.whole("BitsStored") or allocated
    return {
        "rows": _needed(file, "Rows"),
        "columns": _needed(file, "Columns"),
        "number_of_frames": _n_frames(file),
        "samples_per_pixel": 1,
        "photometric_interpretation": file.text("PhotometricInterpretation") or "MONOCHROME2",
        "bits_allocated": allocated,
        "bits_stored": stored,
        "pixel_representation": file.whole("PixelRepresentation") or 0,
        "pixel_keyword": file.pixels.keyword if file.pixels else "PixelData",
        "pixel_vr": file.pixels.vr if file.pixels else "OW",
        # Values that need no shifting or unpacking need no copy either: they are copied into the volume.
        "view_only": allocated > 8 and allocated == stored,
    }


@lru_cache(maxsize=FILES_KEPT)
def _offsets(file: FileHeader) -> tuple[list[int], list[int]] | None:
    """Returns where each compressed frame begins, from the end of the basic offset table, and its bytes.

    None where frames have several fragments, and pydicom finds them. Without it pydicom would search all frames for
    each.
    """
    with file.path.open("rb") as stream:
        stream.seek(file.pixels.offset if file.pixels else 0)
        parse_basic_offsets(stream)
        first = stream.tell()
        n_fragments, offsets = parse_fragments(stream)
        if n_fragments != _n_frames(file):
            return None
        lengths = []
        for offset in offsets:
            stream.seek(offset + 4)
            lengths.append(int.from_bytes(stream.read(4), "little"))
    return [offset - first for offset in offsets], lengths


def _inflated(file: FileHeader) -> bytes:
    """Returns the pixels of a file that is deflated as a whole."""
    return bytes(dcmread(file.path)[file.pixels.keyword if file.pixels else "PixelData"].value)


def _check_bits(file: FileHeader) -> None:
    allocated, stored = _needed(file, "BitsAllocated"), _needed(file, "BitsStored")
    representation, high = _needed(file, "PixelRepresentation"), file.whole("HighBit")
    if not file.text("PhotometricInterpretation"):
        raise _lacking(file, "PhotometricInterpretation")
    if not 1 <= stored <= allocated:
        raise _contradiction(file, f"BitsStored is {stored}, and BitsAllocated {allocated}")
    if high is not None and high != stored - 1:
        raise _contradiction(file, f"HighBit is {high}, which BitsStored {stored} makes {stored - 1}")
    if representation not in (0, 1):
        raise _contradiction(file, f"PixelRepresentation is {representation} instead of 0 or 1")


def _n_frames(file: FileHeader) -> int:
    n_frames = file.whole("NumberOfFrames")
    return 1 if n_frames is None else n_frames


def _needed(file: FileHeader, keyword: str) -> int:
    value = file.whole(keyword)
    if value is None:
        raise _lacking(file, keyword)
    return value


def _lacking(file: FileHeader, keyword: str) -> SourceError:
    return SourceError(
        f"{file.path}: has no {keyword}, without which its pixels can be read in several ways; export it again"
    )


def _contradiction(file: FileHeader, what: str) -> SourceError:
    return SourceError(f"{file.path}: its header contradicts itself: {what}; programs would read it differently")


def _damaged(file: FileHeader, reason: str) -> SourceError:
    return SourceError(f"{file.path}: pixel data are missing, truncated or damaged ({reason}); export it again")
