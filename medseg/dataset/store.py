"""The prepared dataset on disk.

    PREPARED/dataset.json               cases, channels, labels, grids
             fingerprint.json, plan.json
             cases/<case_id>/image.npy       float16 (channel, x, y, z), normalized, on the model grid
                             label_map.npy   uint8 (x, y, z), network values
                             foreground.npy  int32 (n, 4): label, x, y, z of up to 2,000 voxels a label
                             annotated.npy   int32 (n, 3): x, y, z of up to 20,000 voxels that are not ignored; only
                                             where some are

The arrays are plain ``.npy`` files, memory-mapped when read: a patch costs the pages that it lies on, not the case.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, PositiveInt, model_validator

from medseg.dataset.spacing import SaidSpacing
from medseg.errors import SourceError, reading
from medseg.files import written_whole
from medseg.labels import IGNORED, Labels
from medseg.plan import Fingerprint, Plan, Plans, UsualValues
from medseg.records import PathInside, Record, read_record
from medseg.volume import Array, Geometry, Spacing3

R = TypeVar("R", bound=BaseModel)

# float16 keeps eleven bits: normalized values are known to better than one part in a thousand, at half the disk.
IMAGE_DTYPE = np.float16
LARGEST_VALUE = float(np.finfo(IMAGE_DTYPE).max)
FOREGROUND_VOXELS_PER_LABEL = 2000
ANNOTATED_VOXELS = 20_000

AGAIN = "run 'medseg preprocess' again"


Row = tuple[float, float, float, float]


class StoredGrid(Record):
    """``Geometry.as_json``."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    spacing: tuple[float, float, float]
    orientation: str
    affine: tuple[Row, Row, Row, Row]

    @model_validator(mode="after")
    def _check(self) -> Self:
        Geometry.from_json(self.model_dump())  # raises ValueError where that is none
        return self

    @property
    def geometry(self) -> Geometry:
        return Geometry.from_json(self.model_dump())


class StoredCase(Record):
    """An entry of dataset.json. Paths are absolute, or relative to the folder of dataset.json."""

    case_id: Annotated[PathInside, Field(max_length=255)]
    group: str
    images: tuple[str, ...] = Field(min_length=1)
    label: str | None = None
    source_grid: StoredGrid
    model_grid: StoredGrid | None = None  # None: not stored on a model grid (no labels, no plan)
    volumes_ml: dict[str, float] = Field(default_factory=dict)  # of each label
    annotated: tuple[str, ...] | None = None  # names of the labels that were drawn where they are; None: all
    annotated_part: float = 1.0  # of the voxels: those without the ignore value
    spacing: SaidSpacing | None = None  # of its voxels in mm, where the user says it and headers don't


class DatasetRecord(Record):
    """dataset.json."""

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
                self.labels.check_annotated(case.annotated)
        return self

    @property
    def said_spacings(self) -> tuple[Spacing3, ...]:
        """All that the user said of cases whose headers lost theirs."""
        return tuple(sorted({case.spacing for case in self.cases if case.spacing}))


class PreparedDataset:
    """Reads a prepared folder. Raises ``SourceError`` when it isn't one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = _read(folder / "dataset.json", DatasetRecord)
        if self.record.labels is None or any(case.model_grid is None for case in self.record.cases):
            raise SourceError(
                f"{folder} was prepared without labels: it can be predicted on, but not trained on; run "
                "'medseg preprocess' on a source that has label maps"
            )
        self.labels: Labels = self.record.labels

    @cached_property
    def plans(self) -> Plans:
        path = self.folder / "plan.json"
        plans = _read(path, Plans)
        for plan in (plans.plan_2d, plans.plan_3d):
            _check_plan(plan, self.record, path)
        return plans

    @cached_property
    def usual_values(self) -> tuple[UsualValues, ...]:
        """What values cases have, one a channel; () where an older version prepared them."""
        path = self.folder / "fingerprint.json"
        values = _read(path, Fingerprint).usual_values
        if len(values) not in (0, len(self.record.channels)):
            raise SourceError(
                f"{path}: has usual values of {len(values)} channels, where there are {len(self.record.channels)}; "
                f"{AGAIN}"
            )
        return values

    @cached_property
    def cases(self) -> dict[str, StoredCase]:
        return {case.case_id: case for case in self.record.cases}

    def image(self, case_id: str) -> Array:
        """float16 (channel, x, y, z), memory-mapped."""
        return self._array(case_id, "image", IMAGE_DTYPE, (len(self.record.channels), *self.model_grid(case_id).shape))

    def label_map(self, case_id: str) -> Array:
        """uint8 (x, y, z), memory-mapped."""
        return self._array(case_id, "label_map", np.uint8, self.model_grid(case_id).shape)

    def foreground(self, case_id: str) -> Array:
        """int32 (n, 4): label, x, y, z."""
        return self._voxels(case_id, "foreground", 1)

    def annotated_voxels(self, case_id: str) -> Array | None:
        """int32 (n, 3): x, y, z of some; None where no voxel is ignored."""
        return self._voxels(case_id, "annotated", 0) if self._path(case_id, "annotated").is_file() else None

    def is_annotated(self, case_id: str) -> Array:
        """For the background and each label, whether it was drawn where it is: bool (network value,)."""
        unknown = self.labels.unannotated(self.cases[case_id].annotated)
        return np.array([True, *(value not in unknown for value in self.labels.values)])

    def check_values(self, case_id: str, label_map: Array) -> None:
        """Raises ``SourceError`` where a part of a case's label map holds what is no network value."""
        if ((label_map > len(self.labels.items)) & (label_map != IGNORED)).any():
            path = self._path(case_id, "label_map")
            raise SourceError(f"{path}: holds {label_map[label_map != IGNORED].max()}, which is no label; {AGAIN}")

    def model_grid(self, case_id: str) -> Geometry:
        return self._grids[case_id]

    def source_grid(self, case_id: str) -> Geometry:
        return self.cases[case_id].source_grid.geometry

    def label_path(self, case_id: str) -> Path:
        return self.folder / (self.cases[case_id].label or "")

    def image_paths(self, case_id: str) -> list[Path]:
        return [self.folder / image for image in self.cases[case_id].images]

    @cached_property
    def _grids(self) -> dict[str, Geometry]:
        return {case.case_id: (case.model_grid or case.source_grid).geometry for case in self.record.cases}

    def _path(self, case_id: str, name: str) -> Path:
        return self.folder / "cases" / case_id / f"{name}.npy"

    def _array(self, case_id: str, name: str, dtype: npt.DTypeLike, shape: Sequence[int | None]) -> Array:
        """Raises ``SourceError`` for another type or shape; None in it: as many as there are."""
        path = self._path(case_id, name)
        with reading(path, "an array", AGAIN):
            array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            fits = len(array.shape) == len(shape) and all(
                wanted in (None, n) for wanted, n in zip(shape, array.shape, strict=True)
            )
            if not fits or array.dtype != dtype:
                raise SourceError(f"{path}: holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}; {AGAIN}")
        return array

    def _voxels(self, case_id: str, name: str, before: int) -> Array:
        """Rows of ``before`` numbers and x, y, z."""
        voxels = self._array(case_id, name, np.int32, (None, before + 3))
        if (voxels < 0).any() or (voxels[:, before:] >= self.model_grid(case_id).shape).any():
            raise SourceError(f"{self._path(case_id, name)}: has voxels outside of the image; {AGAIN}")
        return voxels


def write_case(folder: Path, image: Array, label_map: Array | None, seed: int) -> None:
    """Stores one case: ``image`` (channel, x, y, z) float, ``label_map`` (x, y, z) uint8."""
    largest = float(np.abs(image).max())
    if not largest <= LARGEST_VALUE:  # also NaN, as a transform of the user may make
        raise SourceError(
            f"normalized values reach {largest:.3g}, which cannot be stored; check the image for outliers, or add "
            "a clipping transform to preprocessing.transforms"
        )
    arrays: dict[str, Array] = {"image": image.astype(IMAGE_DTYPE)}
    if label_map is not None:
        arrays |= {"label_map": label_map, "foreground": _foreground(label_map, seed)}
        if (label_map == IGNORED).any():
            arrays["annotated"] = _annotated(label_map, seed)
    (folder / "annotated.npy").unlink(missing_ok=True)  # of an earlier label map
    for name, array in arrays.items():
        with written_whole(folder / f"{name}.npy") as temporary:
            np.save(temporary, array, allow_pickle=False)


def _foreground(label_map: Array, seed: int) -> Array:
    """Some voxels of each label, so that a patch can be centred on a label without searching for it."""
    random = np.random.default_rng(seed)
    rows = []
    flat = label_map.ravel()
    for value in range(1, int(label_map.max(initial=0, where=label_map != IGNORED)) + 1):
        found = np.flatnonzero(flat == value)
        if len(found) > FOREGROUND_VOXELS_PER_LABEL:
            found = np.sort(random.choice(found, FOREGROUND_VOXELS_PER_LABEL, replace=False))
        if len(found):
            position = np.stack(np.unravel_index(found, label_map.shape), axis=1)
            rows.append(np.hstack([np.full((len(found), 1), value), position]))
    return np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, 4), np.int32)


def _annotated(label_map: Array, seed: int) -> Array:
    """Some of the voxels that are not ignored."""
    found = np.flatnonzero(label_map != IGNORED)
    if len(found) > ANNOTATED_VOXELS:
        found = np.sort(np.random.default_rng(seed).choice(found, ANNOTATED_VOXELS, replace=False))
    return np.stack(np.unravel_index(found, label_map.shape), axis=1).astype(np.int32)


def _check_plan(plan: Plan | None, record: DatasetRecord, path: Path) -> None:
    """Raises ``SourceError``."""
    with reading(path, "the plan of this dataset", AGAIN):
        if plan is not None and record.labels is not None:
            plan.check_fits(record.labels, record.channels)


def _read(path: Path, record: type[R]) -> R:
    if not path.is_file():
        raise SourceError(
            f"{path.parent} is no prepared dataset ({path.name} cannot be read); make one with 'medseg preprocess'"
        )
    return read_record(path, record, "run 'medseg preprocess' on your dataset, and train on what it makes")
