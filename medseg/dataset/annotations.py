"""FOLDER/annotations: what people drew on the images of a folder by ``medseg serve`` or ``medseg annotate``.

    annotations/  annotations.json    the labels, by name and value
                  final/              a label map of each case, <case_id>.nii.gz, with its provenance, <case_id>.json;
                                      other tags have folders of their own
                  images/             images that were uploaded
                  runs/               what was trained in the background

With it the folder is a dataset, which ``medseg preprocess FOLDER`` takes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from medseg.errors import SourceError
from medseg.io.folders import ANNOTATIONS_FILE, is_hidden, stem
from medseg.labels import Labels
from medseg.records import PathInside, Record, read_record, write_record
from medseg.version import VERSION

ANNOTATIONS = "annotations"
FINAL = "final"  # the tag of label maps that are taken for training
UPLOADED = "images"
RUNS = "runs"
TAG = re.compile(r"(?!(?:images|runs)$)[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
ADVICE = "restore it from a copy, or remove it"


class AnnotatedLabels(Record):
    """The content of annotations.json: what the values of the label maps stand for.

    Attributes:
        format: What kind of folder it is.
        medseg: The version that wrote it.
        labels: By name and value, with colours.
    """

    format: Literal["medseg-annotations"] = "medseg-annotations"
    medseg: str = VERSION
    labels: Labels


class Annotation(Record):
    """The provenance of a label map that a person drew, corrected or accepted.

    Attributes:
        medseg: The version that wrote it.
        case_id: The case.
        image: The path of its first image below the folder; of DICOM that of the series.
        series_uid: DICOM's SeriesInstanceUID; empty for other images.
        file: The name of the label map, which lies beside the record.
        sha256: Of that file, in hexadecimal: where it differs, the label map is newer than this record.
        voxels: How many each label has, by name, where it has any.
        author: Who saved it, as the client says.
        client: The program that sent it, such as "Slicer" or "browser".
        saved: When, in UTC, as ISO 8601 has it.
        model: The name of the model whose result it began with; None where it was drawn by hand.
        model_fingerprint: The SHA-256 of that model's weights.
        seconds: That the person spent on it, as the client says; None where it does not.
        edits: Strokes of brush and eraser, and interpolations, that were not undone, where the client tells them.
        prompts: Clicks, boxes and strokes that a model answered, and that were not undone.
    """

    medseg: str = VERSION
    case_id: PathInside
    image: str
    series_uid: str = ""
    file: PathInside
    sha256: str
    voxels: dict[str, NonNegativeInt]
    author: str = ""
    client: str = ""
    saved: str
    model: str | None = None
    model_fingerprint: str | None = None
    seconds: NonNegativeFloat | None = None
    edits: NonNegativeInt = 0
    prompts: NonNegativeInt = 0


@dataclass(frozen=True)
class Authorship:
    """Where a label map comes from.

    Attributes:
        author: Who saved it, as the client says.
        client: The program that sent it.
        model: The name of the model whose result it began with.
        model_fingerprint: The SHA-256 of that model's weights.
        seconds: That the person spent on it.
        edits: Strokes and interpolations of that person.
        prompts: That the model answered.
    """

    author: str = ""
    client: str = ""
    model: str | None = None
    model_fingerprint: str | None = None
    seconds: float | None = None
    edits: int = 0
    prompts: int = 0


def labels_file(folder: Path) -> Path:
    """Returns where the labels of the annotations in a folder lie."""
    return folder / ANNOTATIONS / ANNOTATIONS_FILE


def is_annotated(folder: Path) -> bool:
    """Says whether a folder has annotations."""
    return labels_file(folder).is_file()


def read_annotated_labels(folder: Path) -> Labels | None:
    """Returns the labels of the annotations in a folder; None where it has none.

    Raises:
        SourceError: annotations.json is damaged.
    """
    path = labels_file(folder)
    return read_record(path, AnnotatedLabels, ADVICE).labels if path.is_file() else None


def write_annotated_labels(folder: Path, labels: Labels) -> Path:
    """Writes annotations.json of a folder, and returns its path.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(labels_file(folder), AnnotatedLabels(labels=labels))


def tag_folder(folder: Path, tag: str = FINAL) -> Path:
    """Returns the folder of the label maps of a tag.

    Raises:
        SourceError: The tag is no name.
    """
    if TAG.fullmatch(tag) is None:
        raise SourceError(f"tag '{tag[:40]}': give a name of letters, digits, '_' and '-', such as 'final'")
    return folder / ANNOTATIONS / tag


def tags(folder: Path) -> list[str]:
    """Returns the tags that a folder has label maps of."""
    below = folder / ANNOTATIONS
    names = (path.name for path in below.iterdir() if path.is_dir()) if below.is_dir() else ()
    return sorted(name for name in names if TAG.fullmatch(name))


def label_maps(folder: Path, tag: str = FINAL) -> dict[str, Path]:
    """Returns the label maps of a tag by case id."""
    return {stem(path): path for path in _files(tag_folder(folder, tag)) if path.suffix != ".json"}


def uploaded_images(folder: Path) -> list[Path]:
    """Returns the images that clients uploaded."""
    return list(_files(folder / ANNOTATIONS / UPLOADED))


def read_annotation(folder: Path, case_id: str, tag: str = FINAL) -> Annotation | None:
    """Returns the provenance of a label map; None where nothing is known of it.

    Raises:
        SourceError: Its record is damaged.
    """
    path = tag_folder(folder, tag) / f"{case_id}.json"
    return read_record(path, Annotation, ADVICE) if path.is_file() else None


def write_annotation(folder: Path, annotation: Annotation, tag: str = FINAL) -> Path:
    """Writes the provenance of a label map beside it, and returns its path.

    Raises:
        OutputError: It cannot be written.
    """
    return write_record(tag_folder(folder, tag) / f"{annotation.case_id}.json", annotation)


def with_values(labels: Labels, names: Sequence[str]) -> Labels:
    """Returns labels that have each of the names; new ones get the next free values and colours."""
    new = [name for name in dict.fromkeys(names) if name not in labels.names]
    if not new:
        return labels
    first = max([0, labels.ignore or 0, *labels.values]) + 1
    known = dict(zip(labels.names, labels.values, strict=True))
    named = Labels.from_names({**known, **{name: first + i for i, name in enumerate(new)}})
    kept = {item.name: item for item in labels.items}
    items = tuple(kept.get(item.name, item) for item in named.items)
    return labels.model_copy(update={"items": items})


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_file() and not is_hidden(path.name))
