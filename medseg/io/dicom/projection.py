"""X-ray projections (digital radiographs, mammograms, angiograms): images of one plane, with no place in the patient.

They are 2D images. Their axes are those of the image, and their millimetres those that the header has: calibrated ones
(PixelSpacing; PS3.3, 10.7.1.3) before those at the detector.
"""

import numpy as np

from medseg.io.dicom.header import Header
from medseg.volume import Array

PROJECTIONS = (
    "1.2.840.10008.5.1.4.1.1.1",  # CR
    "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1",  # DX: for presentation, for processing
    "1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.1.2.1",  # MG
    "1.2.840.10008.5.1.4.1.1.1.3", "1.2.840.10008.5.1.4.1.1.1.3.1",  # IO
    "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2",  # XA, RF
)  # fmt: skip
MODALITIES = ("CR", "DX", "MG", "IO", "PX", "XA", "RF")  # where the SOP class is gone

SPACING_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
PROJECTION_KEYWORDS = (*SPACING_KEYWORDS, "PixelSpacingCalibrationType", "PhotometricInterpretation", "BitsStored")

# Relative difference of spacings that were rounded differently.
SPACING_TOLERANCE = 1e-3


def is_projection(header: Header) -> bool:
    """Says whether an image is an X-ray projection, by its SOP class, or by its modality where that is gone."""
    sop_class = header.sop_class
    return sop_class in PROJECTIONS or (not sop_class and header.text("Modality") in MODALITIES)


def projected_spacing(header: Header) -> tuple[float, float] | None:
    """Returns the mm between rows, and between columns, of a projection; None where the header has none.

    Raises:
        SourceError: They cannot be read.
    """
    found = (header.numbers(keyword, 2) for keyword in SPACING_KEYWORDS)
    spacing = next((each for each in found if each is not None), None)
    return None if spacing is None else (spacing[0], spacing[1])


def is_negative(header: Header) -> bool:
    """Says whether low values are the bright ones (MONOCHROME1; PS3.3, C.7.6.3.1.2)."""
    return header.text("PhotometricInterpretation") == "MONOCHROME1"


def turned_over(stored: Array, header: Header) -> Array:
    """Returns the values of a negative as those of a positive, in the range of the stored bits: bone is bright in all.

    Args:
        stored: Values of any shape.
        header: Of the slice, for its BitsStored.
    """
    if stored.dtype.kind != "u":
        return np.asarray(np.invert(stored) if stored.dtype.kind == "i" else -stored)
    bits = header.whole("BitsStored") or stored.dtype.itemsize * 8
    return np.asarray(stored.dtype.type(2**bits - 1) - stored)


def projection_notes(header: Header) -> list[str]:
    """Returns what to know about the values and the millimetres of a projection, for the user."""
    negative = "stored as a negative (MONOCHROME1): turned over, so that bone is bright, as SimpleITK does"
    return [*([negative] if is_negative(header) else []), *_spacing_notes(header)]


def _spacing_notes(header: Header) -> list[str]:
    spacing = projected_spacing(header)
    if spacing is None:
        return ["an X-ray projection without PixelSpacing or ImagerPixelSpacing: pixels are taken as 1 mm"]
    calibrated, at_detector = header.numbers("PixelSpacing", 2), header.numbers("ImagerPixelSpacing", 2)
    if calibrated is None or at_detector is None or _is_same(calibrated, at_detector):
        return []
    how = header.text("PixelSpacingCalibrationType") or "unknown"
    return [
        f"PixelSpacing ({calibrated[0]:g}×{calibrated[1]:g} mm, calibration: {how}) is taken; other programs take "
        f"ImagerPixelSpacing ({at_detector[0]:g}×{at_detector[1]:g} mm), which is that of the detector"
    ]


def _is_same(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(abs(a - b) <= SPACING_TOLERANCE * abs(b) for a, b in zip(one, other, strict=True))
