"""From stored values to those that were measured: slope and intercept, or a table (PS3.3, C.11.1)."""

from collections.abc import Sequence

import numpy as np
from pydicom.pixels.processing import apply_modality_lut

from medseg.errors import SourceError, reason_of
from medseg.io.dicom.header import Header
from medseg.volume import Array

LARGEST_STORED = 2.0**32
LARGEST_VALUE = float(np.finfo(np.float32).max)

Stored = tuple[Header, Array]  # header and stored values (row, column) of a slice


def scale_of(header: Header) -> tuple[float, float]:
    """Returns slope and intercept of a slice.

    Raises:
        SourceError: They cannot be read, the slope is 0, or they give values that no image has.
    """
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope == 0:
        raise SourceError(
            f"{header.path}: RescaleSlope is 0, which some programs read as 1 and others as an image of one value; "
            "correct it or export the file again"
        )
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if not abs(slope) * LARGEST_STORED + abs(intercept) < LARGEST_VALUE:
        raise SourceError(
            f"{header.path}: RescaleSlope {slope:g} and RescaleIntercept {intercept:g} give values beyond those of "
            "32-bit floats, which programs read differently; correct them or export the file again"
        )
    bits = header.whole("BitsStored") or 16
    is_whole = slope.is_integer() and intercept.is_integer()
    if is_whole and bits <= 16 and abs(slope) * 2**bits + abs(intercept) >= 2**31:
        raise SourceError(
            f"{header.path}: RescaleSlope {slope:g} and RescaleIntercept {intercept:g} make whole numbers of more than "
            f"32 bits from stored values of {bits}, which programs read differently; correct them or export it again"
        )
    return slope, intercept


def rescaled(slices: list[Stored]) -> Array:
    """Returns the values that were measured, ``(slice, row, column)``.

    They stay integers where every slope and intercept is a whole number, else they are float64.

    Args:
        slices: Header and stored values of each slice. The list is emptied on the way, so that voxels are not held
            twice.

    Raises:
        SourceError: Slope and intercept, or the table in place of them, cannot be used.
    """
    if any("ModalityLUTSequence" in header for header, _ in slices):
        return np.stack([_by_table(header, stored) for header, stored in slices])
    scales = [scale_of(header) for header, _ in slices]
    identity = set(scales) == {(1.0, 0.0)}
    dtype = np.result_type(*(s.dtype for _, s in slices)) if identity else _dtype(slices, scales)
    stack = np.empty((len(slices), *slices[0][1].shape), dtype=dtype)
    slices.reverse()
    for values, (slope, intercept) in zip(stack, scales, strict=True):
        stored = slices.pop()[1]
        if identity:
            values[:] = stored
        else:
            np.multiply(stored, dtype.type(slope), out=values, dtype=dtype, casting="unsafe")
            values += dtype.type(intercept)
    return stack


def _by_table(header: Header, stored: Array) -> Array:
    try:
        values: Array = apply_modality_lut(stored, header.dataset)
    except Exception as error:  # pydicom raises many kinds on a table that is none
        raise SourceError(
            f"{header.path}: its ModalityLUTSequence cannot be read ({reason_of(error)}); export it again"
        ) from error
    return values


def _dtype(slices: Sequence[Stored], scales: Sequence[tuple[float, float]]) -> np.dtype:
    """Returns the smallest integer type for all that the stored bits could give; float64 for fractional scales."""
    stored_as_float = any(stored.dtype.kind == "f" for _, stored in slices)
    if stored_as_float or any(not value.is_integer() for scale in scales for value in scale):
        return np.dtype(np.float64)
    ends = []
    for (header, stored), (slope, intercept) in zip(slices, scales, strict=True):
        bits = header.whole("BitsStored") or stored.dtype.itemsize * 8
        signed = stored.dtype.kind == "i"
        lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        ends += [slope, intercept, slope * lowest + intercept, slope * highest + intercept]
    for dtype in (np.int16, np.uint16, np.int32, np.int64):
        if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float64)
