"""What a DICOM object shows: an image to segment, something made from one, or no image at all."""

from pydicom.uid import UID

from medseg.errors import printable
from medseg.io.dicom.header import FileHeader, Header
from medseg.io.dicom.projection import is_projection

# Modalities of objects that hold no image, or none of the patient.
NOT_IMAGES = {
    "SEG": "segmentations", "RTSTRUCT": "contours", "RTDOSE": "doses", "RTPLAN": "plans", "SR": "reports",
    "RTRECORD": "records", "PR": "presentation states", "KO": "key object selections",
    "REG": "registrations", "DOC": "documents", "FID": "fiducials", "RWV": "real world value maps",
}  # fmt: skip

# Classes whose objects lie in a patient: where one of them has no place, something was lost. Others never had one.
PLACED = (
    "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",  # CT
    "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.3",
    "1.2.840.10008.5.1.4.1.1.4.4",  # MR
    "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.128.1", "1.2.840.10008.5.1.4.1.1.130",  # PET
)  # fmt: skip

# Private classes that hold no image, by maker: pydicom knows the names of standard ones only.
PRIVATE = {
    "1.3.12.2.1107.5.9.1": "Siemens' raw data", "1.3.46.670589.": "private data of Philips",
    "1.2.840.113619.4.": "private data of GE", "1.2.392.200036.9116.7.8.1.": "private data of Toshiba",
}  # fmt: skip

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds, .7.1 to .7.4
DIRECTORY = "1.2.840.10008.1.3.10"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"

# Values of ImageType (the third and later ones; PS3.3, C.7.6.1.1.2, C.8.13.3.1 and vendors' own) of images that were
# computed from others and do not look like them.
MAPS = {
    "ADC": "an ADC map", "EADC": "an ADC map", "EXP_ADC": "an ADC map",
    "FA": "an anisotropy map", "FRACTIONAL_ANISO": "an anisotropy map", "RA": "an anisotropy map",
    "CBF": "a perfusion map", "CBV": "a perfusion map", "RCBF": "a perfusion map", "RCBV": "a perfusion map",
    "MTT": "a perfusion map", "TTP": "a perfusion map", "TMAX": "a perfusion map", "PERFUSION": "a perfusion map",
    "RELCBF": "a perfusion map", "RELCBV": "a perfusion map", "RELMTT": "a perfusion map",
    "T1 MAP": "a relaxation map", "T2 MAP": "a relaxation map", "T2STAR MAP": "a relaxation map",
    "T1_MAP": "a relaxation map", "T2_MAP": "a relaxation map", "T2_STAR_MAP": "a relaxation map",
    "R2_MAP": "a relaxation map", "R2_STAR_MAP": "a relaxation map", "B0 MAP": "a field map",
    "FIELD_MAP": "a field map", "PHASE MAP": "a field map",
    "MIP": "a projection", "MINIP": "a projection", "MAX_IP": "a projection", "MIN_IP": "a projection",
    "PROJECTION IMAGE": "a projection", "VOLUME_RENDERED": "a rendering", "VRT": "a rendering",
    "SUB": "a subtraction", "SUBTRACT": "a subtraction", "SUBTRACTION": "a subtraction",
}  # fmt: skip


def no_image(header: FileHeader) -> str:
    """Returns why a DICOM object is not an image to segment; empty when it is one.

    Raises:
        SourceError: The header cannot be read.
    """
    return printable(_no_image(header))  # damaged values among it are long


def _no_image(header: FileHeader) -> str:
    modality, sop_class = header.text("Modality"), header.sop_class
    if modality in NOT_IMAGES:
        return f"{modality} ({NOT_IMAGES[modality]}, no image)"
    kind = _kind_without_image(header, sop_class)
    if kind:
        return kind
    image_type = _image_type(header)
    if "LOCALIZER" in image_type:
        return "a localizer"
    if sop_class.startswith(SECONDARY_CAPTURE) and sop_class.removeprefix(SECONDARY_CAPTURE)[:1] in ("", "."):
        return "a secondary capture (a picture of a screen or a paper)"
    if "SCREEN SAVE" in image_type:
        return "a screen save"
    if (header.number("SamplesPerPixel") or 1) > 1 or header.text("PhotometricInterpretation") == "PALETTE COLOR":
        return f"a colour image ({modality})"
    return _without_place(header, sop_class)


def _kind_without_image(header: FileHeader, sop_class: str) -> str:
    """Returns what an object without pixels is, such as "MR Spectroscopy (no image)"; empty for images, damaged ones
    too."""
    if sop_class == PARAMETRIC_MAP:
        return "a parametric map"
    if sop_class == DIRECTORY:
        return "a directory of files (DICOMDIR)"
    name = UID(sop_class).name if sop_class else ""
    is_standard = name not in ("", sop_class)
    if is_standard and "Image" not in name and "Volume" not in name:
        return f"{name.removesuffix(' Storage')} (no image)"
    if is_standard or ("Rows" in header and header.pixels is not None):
        return ""
    private = next((kind for root, kind in PRIVATE.items() if sop_class.startswith(root)), "")
    return private or f"{header.text('Modality') or 'an object'} of the private class {sop_class}, without an image"


def _without_place(header: FileHeader, sop_class: str) -> str:
    """Returns the kind of an image that has no place in the patient, such as ultrasound; empty for others."""
    has_place = "ImagePositionPatient" in header or "PerFrameFunctionalGroupsSequence" in header
    name = UID(sop_class).name.removesuffix(" Storage") if sop_class else f"an image ({header.text('Modality')})"
    if is_projection(header):
        n_frames = header.number("NumberOfFrames") or 1
        return f"{name} of {n_frames:.0f} frames (a film, no volume)" if n_frames > 1 else ""
    return "" if has_place or sop_class in PLACED else f"{name} without a place in the patient"


def derived_kind(header: Header) -> str:
    """Returns what an image was computed to show, such as "an ADC map"; empty for an image as it was acquired."""
    return next((MAPS[value] for value in _image_type(header)[2:] if value in MAPS), "")


def _image_type(header: Header) -> list[str]:
    """Returns the type of the frame, where it has its own: objects with frames of several kinds are called MIXED."""
    return [value.upper() for value in header.texts("FrameType") or header.texts("ImageType")]
