"""What a source holds, all together."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg.dataset.cases import Case
from medseg.inspection.finding import Finding, FindingRecord, Severity
from medseg.inspection.label_map import Drawn
from medseg.inspection.patients import Patient, PatientRecord
from medseg.inspection.repair import FileChange
from medseg.inspection.series import Series, SeriesRecord
from medseg.io.archives import origin
from medseg.labels import Labels
from medseg.records import Record
from medseg.version import VERSION


class CaseRecord(Record):
    """A case, as ``medseg inspect --json`` prints it.

    Attributes:
        case_id: Its name.
        group: The patient, or whatever cases have in common; empty where that is not known.
        images: Paths, one a channel.
        labels: Paths of label maps and segmentations.
        annotated: Names of the labels that were annotated in it; None: all.
        annotated_part: Of the voxels.
        voxels: By name of label; None where that is not known.
        volumes_ml: By name of label; None where that is not known, and of pictures.
        n_objects: Of each instance label, by its name; None where no objects are told apart.
    """

    case_id: str
    group: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    annotated: tuple[str, ...] | None
    annotated_part: float
    voxels: dict[str, int] | None
    volumes_ml: dict[str, float] | None
    n_objects: dict[str, int] | None = None


class ChangeRecord(Record):
    """What was changed in a file of a copy."""

    path: str
    what: str
    before: str
    after: str


class FixedCopyRecord(Record):
    """A copy in which files were put right, and what is still to be found in it."""

    folder: str
    changes: tuple[ChangeRecord, ...]
    findings: tuple[FindingRecord, ...]


class InspectionRecord(Record):
    """What ``medseg inspect --json`` prints.

    Attributes:
        medseg: The version that wrote it.
        source: The folder or file.
        layout: How the dataset lies, in words.
        channels: Names.
        labels: Names, values, colours and codes; None without label maps.
        patients: With the images that are DICOM, by study.
        files: Images that are not.
        cases: What ``preprocess`` would take.
        findings: What is odd or wrong, the most severe first.
        fixed: The copy; None without ``--fix``.
    """

    medseg: str
    source: str
    layout: str
    channels: tuple[str, ...]
    labels: Labels | None
    patients: tuple[PatientRecord, ...]
    files: tuple[SeriesRecord, ...]
    cases: tuple[CaseRecord, ...]
    findings: tuple[FindingRecord, ...]
    fixed: FixedCopyRecord | None


@dataclass(frozen=True)
class InspectedCase:
    """A case, and by label name how much of each is drawn.

    That is None where it is not known; volumes are None for pictures too, whose pixels have no size. ``annotated_part``
    is the part of its voxels that don't have the ignore value.
    """

    case: Case
    voxels: dict[str, int] | None
    volumes_ml: dict[str, float] | None
    annotated_part: float = 1.0
    n_objects: dict[str, int] | None = None

    @classmethod
    def of(cls, drawn: Drawn, labels: Labels | None) -> "InspectedCase":
        """Returns a case with what is drawn in it; ``labels`` name the values."""
        names = {label.value: label.name for label in labels.items} if labels else {}
        if drawn.voxels is None:
            return cls(drawn.case, None, None)
        voxels = {names.get(value, f"value {value}"): n for value, n in sorted(drawn.voxels.items())}
        volumes_ml = None
        if drawn.voxel_ml is not None:
            volumes_ml = {name: n * drawn.voxel_ml for name, n in voxels.items()}
        n_objects = None if drawn.n_objects is None else dict(drawn.n_objects)
        return cls(drawn.case, voxels, volumes_ml, drawn.annotated_part, n_objects)

    def as_record(self) -> CaseRecord:
        """Returns an entry of what ``medseg inspect --json`` prints."""
        drawn = self.case.label.sources if self.case.label else ()
        return CaseRecord(
            case_id=self.case.case_id,
            group=self.case.group,
            images=tuple(str(origin(source.path)) for source in self.case.images),
            labels=tuple(str(origin(source.path)) for source in drawn),
            annotated=self.case.annotated,
            annotated_part=self.annotated_part,
            voxels=self.voxels,
            volumes_ml=self.volumes_ml and {name: round(ml, 4) for name, ml in self.volumes_ml.items()},
            n_objects=self.n_objects,
        )


@dataclass(frozen=True)
class FixedCopy:
    """What was changed in a copy of the source, and what is still to be found in it."""

    folder: Path
    changes: tuple[FileChange, ...]
    left: tuple[Finding, ...]

    def as_record(self) -> FixedCopyRecord:
        """Returns what ``medseg inspect --fix --json`` prints of the copy."""
        return FixedCopyRecord(
            folder=str(self.folder),
            changes=tuple(ChangeRecord(**{**asdict(change), "path": str(change.path)}) for change in self.changes),
            findings=tuple(finding.as_record() for finding in self.left),
        )


@dataclass(frozen=True)
class Inspection:
    """What a source holds.

    ``patients`` hold the DICOM series, ``files`` are all other images; ``findings`` come in order of severity.
    """

    source: Path
    layout: str
    channels: tuple[str, ...]
    labels: Labels | None
    patients: tuple[Patient, ...]
    files: tuple[Series, ...]
    cases: tuple[InspectedCase, ...]
    findings: tuple[Finding, ...]
    fixed: FixedCopy | None = None

    @property
    def series(self) -> Iterator[Series]:
        """All images, label maps and segmentations of the source."""
        for patient in self.patients:
            for study in patient.studies:
                yield from study.series
        yield from self.files

    @property
    def images(self) -> Iterator[Series]:
        """The images of the source: all series but label maps and segmentations."""
        return (series for series in self.series if series.role != "label map" and not series.segments)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that keep cases out."""
        return self.of_severity("problem")

    def of_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """Returns the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def as_record(self) -> InspectionRecord:
        """Returns what ``medseg inspect --json`` prints."""
        return InspectionRecord(
            medseg=VERSION,
            source=str(self.source),
            layout=self.layout,
            channels=self.channels,
            labels=self.labels,
            patients=tuple(patient.as_record() for patient in self.patients),
            files=tuple(series.as_record() for series in self.files),
            cases=tuple(case.as_record() for case in self.cases),
            findings=tuple(finding.as_record() for finding in self.findings),
            fixed=None if self.fixed is None else self.fixed.as_record(),
        )

    def as_json(self) -> dict[str, Any]:
        """Returns what ``medseg inspect --json`` prints, as JSON has it."""
        return self.as_record().as_json()
