"""DICOM series by patient and study, and what their headers say of whose they are."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.inspection.finding import Finding
from medseg.inspection.series import DICOM, Series, SeriesRecord
from medseg.records import Record

GROUPS = "give each patient an ID, or a 'group' in a cases.csv"


class StudyRecord(Record):
    """A DICOM study, as ``medseg inspect --json`` prints it; ``date`` is YYYY-MM-DD."""

    study_uid: str
    date: str
    description: str
    series: tuple[SeriesRecord, ...]


class PatientRecord(Record):
    """A patient, as ``medseg inspect --json`` prints it."""

    patient_id: str
    studies: tuple[StudyRecord, ...]


@dataclass(frozen=True)
class Study:
    """A DICOM study and its series."""

    study_uid: str
    date: str  # YYYY-MM-DD
    description: str
    series: tuple[Series, ...]

    def as_record(self) -> StudyRecord:
        """Returns an entry of what ``medseg inspect --json`` prints."""
        series = tuple(each.as_record() for each in self.series)
        return StudyRecord(study_uid=self.study_uid, date=self.date, description=self.description, series=series)


@dataclass(frozen=True)
class Patient:
    """A patient, by the PatientID of DICOM, with all studies."""

    patient_id: str
    studies: tuple[Study, ...]

    def as_record(self) -> PatientRecord:
        """Returns an entry of what ``medseg inspect --json`` prints."""
        return PatientRecord(patient_id=self.patient_id, studies=tuple(study.as_record() for study in self.studies))


def patients_of(series: Sequence[Series]) -> tuple[Patient, ...]:
    """Returns the patients of the DICOM series, in order of patient and date."""
    grouped: dict[str, dict[str, list[Series]]] = defaultdict(lambda: defaultdict(list))
    for each in series:
        if each.source.kind in DICOM:
            grouped[each.source.patient_id][each.source.study_uid].append(each)
    return tuple(
        Patient(patient_id, tuple(sorted((_study(*item) for item in studies.items()), key=lambda study: study.date)))
        for patient_id, studies in sorted(grouped.items())
    )


def identity_findings(source: Path, patients: Sequence[Patient]) -> Iterator[Finding]:
    """Yields patients that share an ID, or have none, and headers and pixels that tell who they are."""
    for patient in patients:
        series = _series([patient])
        path = series[0].source.path
        births = {each.examination.birth_date for each in series} - {""}
        sexes = {each.examination.sex for each in series} - {""}
        if len(births) > 1 or len(sexes) > 1:
            what = f"several patients seem to share the ID '{patient.patient_id}': birth dates or sexes differ"
            yield Finding("warning", "shared-patient-id", path, what, GROUPS)
        if not patient.patient_id and len(series) > 1:
            what = f"{len(series)} series without a PatientID are taken as of one patient"
            yield Finding("warning", "no-patient-id", path, what, GROUPS)
    named = [each for each in _series(patients) if each.examination.names_the_patient]
    if named:
        what = f"the headers of {len(named)} of {len(_series(patients))} series hold a PatientName"
        to_do = "anonymise the files before you share them; medseg writes no names"
        yield Finding("note", "patient-name", source, what, to_do)
    for each in _series(patients):
        if each.examination.has_burned_in_text:
            what = "its pixels hold burned-in text (BurnedInAnnotation)"
            yield Finding("warning", "burned-in-text", each.source.path, what, "look whether it names the patient")


def _study(study_uid: str, series: Sequence[Series]) -> Study:
    examination = series[0].examination
    return Study(study_uid, examination.study_date, examination.study_description, tuple(series))


def _series(patients: Sequence[Patient]) -> list[Series]:
    return [series for patient in patients for study in patient.studies for series in study.series]
