"""The JSON files of a prepared folder: a record, a reader and a writer of each.

    PREPARED/dataset.json       ``DatasetRecord``: cases, channels, labels, source and model grid of each case
             fingerprint.json   ``medseg.fingerprint.Fingerprint``: what was measured; not there without labels,
                                as plan.json
             plan.json          ``medseg.plan.Plans``: the 2D and the 3D plan

The schema of each is that of its record, such as ``DatasetRecord.model_json_schema()``.
"""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, Field, PositiveInt, model_validator

from medseg.dataset.spacing import SaidSpacing
from medseg.errors import SourceError, reading
from medseg.fingerprint import Fingerprint
from medseg.labels import Labels
from medseg.plan import Plans
from medseg.records import PathInside, Record, read_record, write_record
from medseg.structures import check_annotated
from medseg.volume import Geometry, Spacing3

R = TypeVar("R", bound=BaseModel)

AGAIN = "run 'medseg preprocess' again"
DATASET, FINGERPRINT, PLANS = "dataset.json", "fingerprint.json", "plan.json"

AffineRow = tuple[float, float, float, float]


class StoredGrid(Record):
    """A grid, as ``Geometry.as_json`` writes it."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    spacing: tuple[float, float, float]
    orientation: str
    affine: tuple[AffineRow, AffineRow, AffineRow, AffineRow]

    @model_validator(mode="after")
    def _check(self) -> Self:
        Geometry.from_json(self.model_dump())  # raises ValueError where that is none
        return self

    @property
    def geometry(self) -> Geometry:
        """The grid as a ``Geometry``."""
        return Geometry.from_json(self.model_dump())


class StoredCase(Record):
    """An entry of dataset.json. Paths are absolute, or relative to the folder of dataset.json."""

    case_id: Annotated[PathInside, Field(max_length=255)]
    group: str
    images: tuple[str, ...] = Field(min_length=1)
    label: str | None = None
    objects: str | None = None  # the object map, on the source grid; None where labels tell no objects apart
    source_grid: StoredGrid
    model_grid: StoredGrid | None = None  # None: not stored on a model grid (no labels, no plan)
    volumes_ml: dict[str, float] = Field(default_factory=dict)  # of each label
    n_objects: dict[str, int] = Field(default_factory=dict)  # of each instance label
    annotated: tuple[str, ...] | None = None  # names of the labels that were drawn where they are; None: all
    annotated_part: float = 1.0  # of the voxels: those without the ignore value
    spacing: SaidSpacing | None = None  # of its voxels in mm, where the user says it and headers don't


class DatasetRecord(Record):
    """The content of dataset.json of a prepared dataset: its cases, channels and labels, and where their files lie.

    Example:
        >>> from medseg.dataset import DatasetRecord, PreparedDataset
        >>> record: DatasetRecord = PreparedDataset("prepared").record  # what medseg preprocess wrote
        >>> record.channels, record.cases[0].case_id
        (('image',), 'blob_00')
    """

    format: Literal["medseg-prepared"] = "medseg-prepared"
    version: Literal[1] = 1
    medseg: str  # the version that wrote it
    source: str
    layout: str
    channels: tuple[str, ...] = Field(min_length=1)
    labels: Labels | None
    cases: tuple[StoredCase, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({case.case_id for case in self.cases}) < len(self.cases):
            raise ValueError("two cases have one case_id")
        for case in self.cases:
            if self.labels is not None:
                check_annotated(case.annotated, self.labels.names)
        return self

    @property
    def said_spacings(self) -> tuple[Spacing3, ...]:
        """All spacings that the user said of cases whose headers lost theirs."""
        return tuple(sorted({case.spacing for case in self.cases if case.spacing}))


def read_dataset(folder: Path) -> DatasetRecord:
    """Returns dataset.json of a prepared folder.

    Raises:
        SourceError: It isn't one.
    """
    return _read(folder / DATASET, DatasetRecord)


def write_dataset(folder: Path, record: DatasetRecord) -> Path:
    """Writes dataset.json, and returns its path. It is written last: it makes a dataset of the folder."""
    return write_record(folder / DATASET, record)


def read_fingerprint(folder: Path, record: DatasetRecord) -> Fingerprint:
    """Returns fingerprint.json of the prepared folder of ``record``.

    Raises:
        SourceError: It isn't of this dataset.
    """
    path = folder / FINGERPRINT
    fingerprint = _read(path, Fingerprint)
    n = len(fingerprint.usual_values)
    if n not in (0, len(record.channels)):
        raise SourceError(f"{path}: has usual values of {n} channels, where there are {len(record.channels)}; {AGAIN}")
    return fingerprint


def write_fingerprint(folder: Path, fingerprint: Fingerprint) -> Path:
    """Writes fingerprint.json, and returns its path."""
    return write_record(folder / FINGERPRINT, fingerprint)


def read_plans(folder: Path, record: DatasetRecord) -> Plans:
    """Returns plan.json of the prepared folder of ``record``.

    Raises:
        SourceError: It isn't of this dataset.
    """
    path = folder / PLANS
    plans = _read(path, Plans)
    with reading(path, "the plan of this dataset", AGAIN):
        for plan in (plans.plan_2d, plans.plan_3d):
            if plan is not None and record.labels is not None:
                plan.check_fits(record.labels, record.channels)
    return plans


def write_plans(folder: Path, plans: Plans) -> Path:
    """Writes plan.json, and returns its path."""
    return write_record(folder / PLANS, plans)


def _read(path: Path, record: type[R]) -> R:
    if not path.is_file():
        raise SourceError(
            f"{path.parent} is no prepared dataset ({path.name} cannot be read); make one with 'medseg preprocess'"
        )
    return read_record(path, record, "run 'medseg preprocess' on your dataset, and train on what it makes")
