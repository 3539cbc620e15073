"""What clients send: forms with files and parameters, read with limits, into temporary files with names of our own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any

import anyio.to_thread
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from medseg.dataset.cases import Case, LabelSource
from medseg.dataset.reading import read_label_map
from medseg.errors import LabelError, MedsegError, SourceError
from medseg.io.discover import source_of
from medseg.io.read import read_segmentation
from medseg.io.source import SEGMENTATIONS
from medseg.labels import Labels
from medseg.records import explained, parse_json
from medseg.volume import GRID_TOLERANCE, Geometry, LabelMap

LARGEST_PARAMS = 2**23  # bytes
MOST_FILES = 4096  # of a DICOM series
MOST_POINTS = 1000
CHUNK = 2**20

# Names of what is drawn over with a brush, beside the structures themselves.
BACKGROUND = "background"
SCRIBBLES = ("foreground_scribbles", "background_scribbles")
RAW = ".bin"  # OHIF's label maps: bytes, x fastest
SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".tiff", ".dcm", RAW)

Voxel = tuple[float, float, float]  # some clients say a place between voxels


class LabelInfo(BaseModel):
    """What a client calls a value of a label map: 3D Slicer's ``label_info``."""

    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
    idx: int | None = None
    id: int | None = None  # of scribbles, which have another key

    @property
    def value(self) -> int | None:
        """The label's value in the file that was uploaded, as the client says; None: it says none."""
        return self.idx if self.idx is not None else self.id


class InferParams(BaseModel):
    """The parameters of a request for a label map; those of other clients are not looked at."""

    model_config = ConfigDict(extra="ignore")

    result_extension: str = ".nii.gz"
    result_dtype: str = "uint8"
    result_compress: bool = True
    foreground: list[Voxel] = Field(default_factory=list, max_length=MOST_POINTS)
    background: list[Voxel] = Field(default_factory=list, max_length=MOST_POINTS)
    roi: list[int] = Field(default_factory=list, max_length=6)
    label: str | None = Field(None, max_length=200)
    selected_label_name: str | None = Field(None, max_length=200)
    label_info: list[LabelInfo] = Field(default_factory=list, max_length=1000)
    client_id: str | None = Field(None, max_length=200)


class SaveParams(BaseModel):
    """The parameters of a label map that is saved."""

    model_config = ConfigDict(extra="ignore")

    label_info: list[LabelInfo] = Field(default_factory=list, max_length=1000)
    model: str | None = Field(None, max_length=200)
    client_id: str | None = Field(None, max_length=200)
    user: str | None = Field(None, max_length=200)


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[tuple[FormData, Path]]:
    """Yields the form of a request, and a temporary folder for its files."""
    with TemporaryDirectory() as folder:
        async with request.form(max_files=MOST_FILES, max_part_size=LARGEST_PARAMS) as form:
            yield form, Path(folder)


def params_of(form: FormData, kind: type[InferParams] | type[SaveParams]) -> Any:
    """Returns the parameters of a form, which are JSON in a field ``params``.

    Raises:
        HTTPException: They are wrong: 400.
    """
    text = form.get("params") or "{}"
    try:
        content = parse_json(text if isinstance(text, str) else "")
        if isinstance(content, dict):
            content = {name: value for name, value in content.items() if value is not None}
        return kind.model_validate({} if content is None else content)
    except ValidationError as error:
        raise HTTPException(400, f"params: {explained(error)}") from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"params: no JSON ({str(error)[:200]})") from error


async def stored(upload: UploadFile, folder: Path, stem: str = "upload", suffix: str | None = None) -> Path:
    """Writes what a client sent into a folder, under a name of our own with the suffix of the client's.

    Args:
        upload: A file of a form. Of its name nothing but the suffix is taken.
        folder: A temporary one.
        stem: Of the new name.
        suffix: Of the new name; None takes the client's.

    Raises:
        HTTPException: It has no known suffix: 400.
    """
    name = name_of(upload.filename or "")
    if suffix is None:
        suffix = next((known for known in SUFFIXES if name.lower().endswith(known)), None)
    if suffix is None:
        raise HTTPException(400, f"'{name[:80]}': send a file named {', '.join(SUFFIXES)}")
    path = folder / f"{stem}{suffix}"
    with path.open("wb") as stream:
        while chunk := await upload.read(CHUNK):
            await anyio.to_thread.run_sync(stream.write, chunk)
    return path


def name_of(filename: str) -> str:
    """Returns the last part of a client's path, whatever its system."""
    return PureWindowsPath(PurePosixPath(filename).name).name


def file_of(form: FormData, field: str) -> UploadFile | None:
    """Returns a file of a form; None where there is none."""
    found = form.get(field)
    return found if isinstance(found, UploadFile) else None


def read_sent(path: Path, case: Case, grid: Geometry) -> tuple[LabelMap, dict[int, str]]:
    """Returns a label map that a client sent, and the names that it brings along itself.

    Args:
        path: Its temporary file.
        case: The case that it was drawn on.
        grid: That of the case's first image.

    Returns:
        The label map ``(x, y, z)`` on ``grid``, and names by value: those of the segments of a ``.seg.nrrd``.

    Raises:
        MedsegError: It cannot be read, or lies on another grid.
    """
    if path.suffix == RAW:
        content = np.fromfile(path, np.uint8)
        if content.size != np.prod(grid.shape):
            raise LabelError(
                f"the label map has {content.size} bytes, the image {'×'.join(map(str, grid.shape))} voxels"
            )
        return content.reshape(grid.shape, order="F"), {}
    try:
        source = source_of(path)
        if source.kind in SEGMENTATIONS:
            segments = read_segmentation(source, grid, case.images[0])
            values = {segment.name: segment.number for segment in segments.segments}
            return segments.label_map(values), {value: name for name, value in values.items()}
        label = LabelSource((source,))
        return read_label_map(Case(case.case_id, case.images, label), grid, GRID_TOLERANCE).array, {}
    except MedsegError as error:
        raise SourceError(str(error).replace(str(path), "the label map that was sent")) from error


def names_of_values(label_map: LabelMap, info: Sequence[LabelInfo], labels: Labels) -> dict[int, str]:
    """Returns what the values of a label map stand for.

    3D Slicer writes segments as 1, 2, … in the order of ``label_info``, and counts in its ``idx`` those segments too
    that it leaves out; other clients write the values that they say. So the order counts where it explains all values,
    and ``idx`` goes up.
    Without ``label_info`` they are those of the folder's labels, beside the one of voxels that nobody annotated.

    What is called 0, or the background, is no label.

    Args:
        label_map: In the client's values.
        info: What the client calls them.
        labels: Those of the folder.

    Raises:
        LabelError: A value has no name.
    """
    present = [int(value) for value in np.unique(label_map) if value != 0]
    named = [each for each in info if each.value != 0 and each.name != BACKGROUND]
    by_order: Mapping[int, str] = {number: each.name for number, each in enumerate(named, start=1)}
    by_value = {each.value: each.name for each in named if each.value}
    numbers = [each.value for each in named if each.value is not None]
    is_ordered = numbers == sorted(numbers) and max(present, default=0) <= len(named)
    known: Mapping[int, str] = by_order if is_ordered else by_value
    if not info:
        known = dict(zip(labels.values, labels.names, strict=True))
        present = [value for value in present if value != labels.ignore]
    unknown = [value for value in present if value not in known]
    if unknown:
        raise LabelError(f"the label map holds the value {unknown[0]}, which has no name; send label_info with it")
    return {value: known[value] for value in present}
