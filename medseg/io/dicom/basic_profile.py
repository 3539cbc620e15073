"""DICOM objects without what tells whose they are: the basic profile of PS3.15, Annex E, through dicom-anonymizer."""

from collections.abc import Callable
from functools import cache
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

# The edition of table E.1-1 that is applied.
TABLE = "dicomfields_2026c"
METHOD = ["PS3.15 Annex E, basic profile, table of 2026c", "by dicom-anonymizer"]

# (113100, DCM): Basic Application Confidentiality Profile.
PROFILE_CODE = ("113100", "DCM", "Basic Application Confidentiality Profile")

# What is drawn needs its name, or nothing could be learnt of it. The profile would empty the names of ROIs.
KEPT = ("ROIName",)

# Texts that are not in the table, and may repeat descriptions that are.
REMOVED = ("ContentDescription", "SegmentDescription")

# Sequences of references that the profile lets be removed; their UIDs are replaced like all others.
REFERENCES = ("ReferencedImageSequence", "SourceImageSequence")

# UIDs with a meaning of their own: kinds of objects, not objects.
OF_THE_STANDARD = "1.2.840.10008."

Actions = dict[tuple[int, ...], Callable[[Dataset, Any], None]]


def deidentify(dataset: Dataset, patient: str, new_uid: Callable[[str], str]) -> None:
    """Removes from a DICOM object what tells whose it is, and replaces UIDs; items of sequences too.

    Pixels stay as they are: text that is burned into them, and faces, are not removed.

    Args:
        dataset: Is changed, its meta header too.
        patient: What PatientID and PatientName become.
        new_uid: Returns the UID that takes the place of another.

    Examples:
        >>> dataset = Dataset()
        >>> dataset.PatientName, dataset.StudyInstanceUID, dataset.Modality = "Doe^Jane", "1.2.3", "CT"
        >>> deidentify(dataset, "P0001", lambda uid: f"2.25.{len(uid)}")
        >>> str(dataset.PatientName), dataset.StudyInstanceUID, dataset.Modality, dataset.PatientIdentityRemoved
        ('P0001', '2.25.5', 'CT', 'YES')
    """
    _apply(dataset, _rules())
    dataset.walk(lambda _, element: _replace_uids(element, new_uid))
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and "SOPInstanceUID" in dataset:
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        for keyword in ("SourceApplicationEntityTitle", "PrivateInformation", "PrivateInformationCreatorUID"):
            if keyword in meta:
                delattr(meta, keyword)
    dataset.PatientID, dataset.PatientName = patient, patient
    dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", METHOD
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = PROFILE_CODE
    dataset.DeidentificationMethodCodeSequence = [code]


def _apply(dataset: Dataset, rules: Actions) -> None:
    """Applies rules to an object, and to the items of its sequences, at which dicom-anonymizer does not look."""
    from dicomanonymizer import anonymize_dataset

    anonymize_dataset(dataset, base_rules_gen=lambda: rules)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _apply(item, rules)


@cache
def _rules() -> Actions:
    """Returns what is done with each tag of the profile's table; UIDs are replaced afterwards."""
    from dicomanonymizer.simpledicomanonymizer import delete, initialize_actions, replace_UID
    from pydicom.datadict import tag_for_keyword

    rules: Actions = {tag: action for tag, action in initialize_actions(TABLE).items() if action is not replace_UID}
    numbers = {keyword: tag_for_keyword(keyword) or 0 for keyword in (*KEPT, *REFERENCES, *REMOVED)}
    tags = {keyword: (number >> 16, number & 0xFFFF) for keyword, number in numbers.items()}
    for keyword in (*KEPT, *REFERENCES):
        rules.pop(tags[keyword], None)
    return rules | {tags[keyword]: delete for keyword in REMOVED}


def _replace_uids(element: DataElement, new_uid: Callable[[str], str]) -> None:
    if element.VR != "UI" or element.value is None or not element.value:
        return
    if isinstance(element.value, MultiValue):
        element.value = [_new(str(each), new_uid) for each in element.value]
    else:
        element.value = _new(str(element.value), new_uid)


def _new(uid: str, new_uid: Callable[[str], str]) -> UID:
    return UID(uid if uid.startswith(OF_THE_STANDARD) else new_uid(uid))
