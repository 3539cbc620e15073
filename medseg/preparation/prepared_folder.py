"""The files of a prepared folder that describe all of its cases."""

from dataclasses import dataclass
from pathlib import Path

from medseg.dataset.dataset_json import read_dataset_json
from medseg.dataset.prepared_json import DatasetRecord, StoredCase, StoredGrid
from medseg.errors import OutputError, Problem
from medseg.files import ensure_folder
from medseg.labels import Labels
from medseg.plan import Plans
from medseg.preparation.agreement import AgreedCases
from medseg.preparation.checked_case import Checked
from medseg.problems import ProblemRecord, WarningRecord, problem_records, warning_records
from medseg.records import Record
from medseg.version import VERSION


class PreprocessRecord(Record):
    """What ``medseg preprocess --json`` prints.

    Attributes:
        folder: The prepared dataset.
        layout: How the dataset lies, in words.
        channels: Names.
        labels: Names, values, colours and codes; None without label maps.
        cases: Ids of the cases that were taken.
        annotated_part: Of the voxels, by case.
        problems: Of the cases that were left out.
        warnings: What is doubtful in cases that were taken.
    """

    folder: str
    layout: str
    channels: tuple[str, ...]
    labels: Labels | None
    cases: tuple[str, ...]
    annotated_part: dict[str, float]
    problems: tuple[ProblemRecord, ...]
    warnings: tuple[WarningRecord, ...]


@dataclass(frozen=True)
class PreprocessResult:
    """A prepared folder, and what was left out of it; ``plans`` is None where there were no labels."""

    folder: Path
    record: DatasetRecord
    plans: Plans | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()  # what is doubtful in cases that were taken

    def as_record(self) -> PreprocessRecord:
        """Returns what ``medseg preprocess --json`` prints."""
        record = self.record
        return PreprocessRecord(
            folder=str(self.folder),
            layout=record.layout,
            channels=record.channels,
            labels=record.labels,
            cases=tuple(case.case_id for case in record.cases),
            annotated_part={case.case_id: round(case.annotated_part, 6) for case in record.cases},
            problems=problem_records(self.problems),
            warnings=warning_records(self.warnings),
        )


def begin_folder(folder: Path, source: Path) -> Path:
    """Returns the folder, which is no dataset before ``write_dataset``: until then its cases may be of two plans.

    Raises:
        OutputError: The user's own dataset.json would be overwritten.
    """
    content = read_dataset_json(folder)
    if folder.resolve() == source.resolve() or (content and content.get("format") != "medseg-prepared"):
        raise OutputError(f"{folder}: holds a dataset that is not to be overwritten; choose another folder with -o")
    folder = ensure_folder(folder)
    (folder / "dataset.json").unlink(missing_ok=True)
    return folder


def dataset_record(folder: Path, source: Path, layout: str, agreed: AgreedCases) -> DatasetRecord:
    """Returns the content of dataset.json.

    Args:
        folder: The prepared folder; paths of files in it become relative to it.
        source: What the user gave.
        layout: How it lies on disk, in words.
        agreed: The cases that were prepared.
    """
    in_order = sorted(agreed.cases, key=lambda item: item.case_id)
    return DatasetRecord(
        medseg=VERSION,
        source=str(source.resolve()),
        layout=layout,
        channels=agreed.channels,
        labels=agreed.labels,
        cases=tuple(_stored_case(item, folder, agreed.labels) for item in in_order),
    )


def _stored_case(item: Checked, folder: Path, labels: Labels | None) -> StoredCase:
    annotated = item.case.annotated
    pairs = zip(labels.values, labels.names, strict=True) if labels else ()
    names = {value: name for value, name in pairs if annotated is None or name in annotated}
    voxel_ml = item.measures.source_grid.voxel_volume_ml
    return StoredCase(
        case_id=item.case_id,
        group=item.case.group or item.case_id,
        images=tuple(_recorded(source.path, folder) for source in item.case.images),
        label=None if item.case.label is None else _recorded(item.case.label.path, folder),
        objects=None if item.case.objects is None else _recorded(item.case.objects.path, folder),
        source_grid=StoredGrid(**item.measures.source_grid.as_json()),
        model_grid=None if item.model_grid is None else StoredGrid(**item.model_grid.as_json()),
        volumes_ml={names[v]: round(n * voxel_ml, 4) for v, n in item.measures.voxels.items() if v in names},
        n_objects=dict(item.n_objects),
        annotated=annotated,
        annotated_part=item.measures.annotated_part,
        spacing=item.case.spacing,
    )


def _recorded(path: Path, folder: Path) -> str:
    """Returns a path relative to the prepared folder for files in it, so that it can be moved; absolute for the
    user's own."""
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
