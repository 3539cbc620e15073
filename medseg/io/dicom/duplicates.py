"""Slices that are there twice: sent again, or copied. What decides are their pixels, since UIDs are often wrong."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from medseg.io.dicom.header import Header
from medseg.io.dicom.volumes import Slice, positions_of

# The stored pixels of a slice, by its header, as a digest; None where they cannot be read.
Digest = Callable[[Header], bytes | None]


class Distinct(NamedTuple):
    """Slices without those that are there twice.

    Attributes:
        slices: Those that were kept.
        notes: What was left out, and what should be distinct but isn't.
    """

    slices: list[Slice]
    notes: list[str]


def digest_of(stored: bytes, shape: tuple[int, ...]) -> bytes:
    """Returns a digest of the pixels of a slice, of 16 bytes.

    Args:
        stored: The pixels.
        shape: ``(rows, columns)``.
    """
    return blake2b(stored + repr(shape).encode(), digest_size=16).digest()


def without_copies(slices: Sequence[Slice], digest: Digest) -> Distinct:
    """Returns slices without copies, which have the same SOPInstanceUID, the same position and the same pixels.

    Some anonymisers give all slices of a series, or of a position, one UID: these are no copies.

    Args:
        slices: Of one series.
        digest: Gives the digest of a slice's pixels.
    """
    kept, n_copies = _distinct(slices, map(_identity, slices), digest)
    uids = Counter((slice_.header.text("SOPInstanceUID"), slice_.header.frame) for slice_ in kept)
    shared = sum(count for (uid, _), count in uids.items() if uid and count > 1)
    notes = [f"{n_copies} duplicate slices (same SOPInstanceUID, same pixels) are left out"] if n_copies else []
    if shared:
        notes.append(
            f"{shared} slices share a SOPInstanceUID, which should be unique: they were told apart by their pixels"
        )
    return Distinct(kept, notes)


def without_repeated(slices: Sequence[Slice], digest: Digest) -> Distinct:
    """Returns slices without those that repeat another one pixel by pixel, where only some positions have several.

    Where all positions have several, they are volumes of their own, equal pixels or not.

    Args:
        slices: Of one geometry.
        digest: Gives the digest of a slice's pixels.
    """
    at = positions_of(slices)
    counts = Counter(at)
    if min(counts.values()) == max(counts.values()):
        return Distinct(list(slices), [])
    kept, n_repeated = _distinct(slices, at, digest)
    notes = [f"{n_repeated} slices that repeat another one pixel by pixel are left out"] if n_repeated else []
    return Distinct(kept, notes)


def _identity(slice_: Slice) -> Hashable:
    uid = slice_.header.text("SOPInstanceUID")
    return (uid, slice_.plane.frame, *slice_.plane.position) if uid else None


def _distinct(slices: Sequence[Slice], keys: Iterable[Hashable], digest: Digest) -> tuple[list[Slice], int]:
    """Returns one of each that have the same key, unless it is None, and the same pixels; and how many were
    left out."""
    keys = list(keys)
    counts = Counter(keys)
    seen: dict[Hashable, set[bytes]] = defaultdict(set)
    kept = []
    for slice_, key in zip(slices, keys, strict=True):
        if key is not None and counts[key] > 1 and (pixels := digest(slice_.header)) is not None:
            if pixels in seen[key]:
                continue
            seen[key].add(pixels)
        kept.append(slice_)
    return kept, len(slices) - len(kept)
