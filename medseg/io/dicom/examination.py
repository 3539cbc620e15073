"""Whose images a DICOM series holds, and when they were made."""

from dataclasses import dataclass
from pathlib import Path

from pydicom import config

from medseg.errors import SourceError
from medseg.io.dicom.files import read_header
from medseg.io.dicom.header import Header


@dataclass(frozen=True)
class Examination:
    """What the first file of a series says of the patient and the study; empty where it says nothing.

    Attributes:
        birth_date: PatientBirthDate, as it stands there.
        sex: PatientSex.
        study_date: YYYY-MM-DD.
        study_description: StudyDescription.
        names_the_patient: Whether it has a name that is no pseudonym.
        has_burned_in_text: Whether it says that there is text in the pixels.
    """

    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    study_description: str = ""
    names_the_patient: bool = False
    has_burned_in_text: bool = False


def read_examination(path: Path) -> Examination:
    """Reads whose images a file holds, and when they were made; values that cannot be read are empty.

    Args:
        path: A file that was found to be DICOM.
    """
    with config.disable_value_validation():
        return _examination(read_header(path))


def _examination(header: Header) -> Examination:
    name, date = _text(header, "PatientName"), _text(header, "StudyDate")
    is_pseudonym = name in ("", _text(header, "PatientID")) or "anon" in name.lower()
    return Examination(
        birth_date=_text(header, "PatientBirthDate"),
        sex=_text(header, "PatientSex"),
        study_date=f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date,
        study_description=_text(header, "StudyDescription"),
        names_the_patient=not is_pseudonym and _text(header, "PatientIdentityRemoved") != "YES",
        has_burned_in_text=_text(header, "BurnedInAnnotation") == "YES",
    )


def _text(header: Header, keyword: str) -> str:
    try:
        return header.text(keyword)
    except SourceError:
        return ""
