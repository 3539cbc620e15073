"""What a source holds, all together."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg.dataset.cases import Case
from medseg.inspection.drawn import Drawn
from medseg.inspection.finding import Finding, Severity
from medseg.inspection.patients import Patient
from medseg.inspection.repair import Change
from medseg.inspection.series import Series
from medseg.io.archives import origin
from medseg.labels import Labels
from medseg.version import VERSION


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

    @classmethod
    def of(cls, drawn: Drawn, labels: Labels | None) -> "InspectedCase":
        """Returns a case with what is drawn in it; ``labels`` name the values."""
        names = {label.value: label.name for label in labels.items} if labels else {}
        if drawn.voxels is None:
            return cls(drawn.case, None, None)
        voxels = {names.get(value, f"value {value}"): n for value, n in sorted(drawn.voxels.items())}
        if drawn.voxel_ml is None:
            return cls(drawn.case, voxels, None, drawn.annotated_part)
        volumes_ml = {name: n * drawn.voxel_ml for name, n in voxels.items()}
        return cls(drawn.case, voxels, volumes_ml, drawn.annotated_part)

    def as_json(self) -> dict[str, Any]:
        """Returns an entry of what ``medseg inspect --json`` prints."""
        return {
            "case_id": self.case.case_id,
            "group": self.case.group,
            "images": [str(origin(source.path)) for source in self.case.images],
            "labels": [str(origin(source.path)) for source in self.case.label.sources] if self.case.label else [],
            "annotated": self.case.annotated,
            "annotated_part": self.annotated_part,
            "voxels": self.voxels,
            "volumes_ml": self.volumes_ml and {name: round(ml, 4) for name, ml in self.volumes_ml.items()},
        }


@dataclass(frozen=True)
class FixedCopy:
    """What was changed in a copy of the source, and what is still to be found in it."""

    folder: Path
    changes: tuple[Change, ...]
    left: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns what ``medseg inspect --fix --json`` prints of the copy."""
        return {
            "folder": str(self.folder),
            "changes": [{**asdict(change), "path": str(change.path)} for change in self.changes],
            "findings": [finding.as_json() for finding in self.left],
        }


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
        """All images."""
        for patient in self.patients:
            for study in patient.studies:
                yield from study.series
        yield from self.files

    @property
    def images(self) -> Iterator[Series]:
        """All but label maps and segmentations."""
        return (series for series in self.series if series.role != "label map" and not series.segments)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that keep cases out."""
        return self.of_severity("problem")

    def of_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """Returns the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def as_json(self) -> dict[str, Any]:
        """Returns what ``medseg inspect --json`` prints; these keys stay.

        * ``medseg`` (version), ``source``, ``layout``, ``channels`` (names), ``labels`` (``items`` with name, value,
          colour, codes; ``regions``; null without label maps)
        * ``patients``: ``patient_id``, ``studies``: ``study_uid``, ``date`` (YYYY-MM-DD), ``description``, ``series``
        * ``files``: images that are not DICOM, with the same keys as ``series``: ``path``, ``role`` ("image",
          "label map", "unused"), ``case_id``, ``format``, ``modality``, ``description``, ``part``, ``series_uid``,
          ``n_files``, ``n_channels``, ``grid`` (``shape``, ``spacing`` in mm, ``orientation``, ``affine`` to RAS mm;
          null for contours and for what cannot be read), ``values`` (lowest and highest, with ``--voxels``),
          ``segments`` (names), ``odd`` (sentences)
        * ``cases``: ``case_id``, ``group``, ``images`` and ``labels`` (paths), ``annotated`` (names of labels; null:
          all), ``annotated_part`` (of the voxels), ``voxels`` and ``volumes_ml`` by label (null where not known, and
          volumes of pictures)
        * ``findings``: ``severity`` ("problem", "warning", "note"), ``rule``, ``path``, ``case_id``, ``what``,
          ``to_do``, ``fixable``
        * ``fixed`` (null without ``--fix``): ``folder``, ``changes`` (``path``, ``what``, ``before``, ``after``) and
          the ``findings`` that are left in the copy
        """
        return {
            "medseg": VERSION,
            "source": str(self.source),
            "layout": self.layout,
            "channels": list(self.channels),
            "labels": self.labels and self.labels.model_dump(mode="json"),
            "patients": [patient.as_json() for patient in self.patients],
            "files": [series.as_json() for series in self.files],
            "cases": [case.as_json() for case in self.cases],
            "findings": [finding.as_json() for finding in self.findings],
            "fixed": self.fixed and self.fixed.as_json(),
        }
