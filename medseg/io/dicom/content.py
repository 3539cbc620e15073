"""What a DICOM object shows: an image to segment, something made from one, or no image at all."""

from pydicom import Dataset

from medseg.io.dicom.header import Header

# Modalities of objects that hold no image, or none of the patient.
NOT_IMAGES = {
    "SEG": "segmentations", "RTSTRUCT": "contours", "RTDOSE": "doses", "RTPLAN": "plans", "SR": "reports",
    "RTRECORD": "records", "PR": "presentation states", "KO": "key object selections",
    "REG": "registrations", "DOC": "documents", "FID": "fiducials", "RWV": "real world value maps",
}  # fmt: skip

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds, .7.1 to .7.4
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


def no_image(header: Header) -> str:
    """Why a DICOM object is not an image to segment; empty when it is one."""
    modality = header.text("Modality")
    sop_class = header.text("SOPClassUID")
    image_type = _image_type(header.dataset)
    if modality in NOT_IMAGES:
        return f"{modality} ({NOT_IMAGES[modality]}, no image)"
    if not header.dataset.get("Rows"):
        return f"{modality or 'an object'} without an image"
    if "LOCALIZER" in image_type:
        return "a localizer"
    if sop_class.startswith(SECONDARY_CAPTURE) and sop_class.removeprefix(SECONDARY_CAPTURE)[:1] in ("", "."):
        return "a secondary capture (a picture of a screen or a paper)"
    if "SCREEN SAVE" in image_type:
        return "a screen save"
    if sop_class == PARAMETRIC_MAP:
        return "a parametric map"
    if int(header.dataset.get("SamplesPerPixel") or 1) > 1:
        return f"a colour image ({modality})"
    return ""


def derived_kind(header: Dataset) -> str:
    """What an image was computed to show, such as "an ADC map"; empty for an image as it was acquired."""
    return next((MAPS[value] for value in _image_type(header)[2:] if value in MAPS), "")


def _image_type(header: Dataset) -> list[str]:
    values = header.get("ImageType") or header.get("FrameType") or ()
    return [str(value).strip().upper() for value in ([values] if isinstance(values, str) else values)]
