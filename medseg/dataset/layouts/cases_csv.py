"""A table of cases: case_id, image (or image_<channel>, several), label, objects (an object map), group, annotated,
spacing (in mm, where headers are wrong)."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.dataset.dataset_json import label_names, read_dataset_json
from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.listed_paths import add_listed, add_objects, annotated_labels, listed_spacing
from medseg.dataset.layouts.listing import Listing
from medseg.errors import ConfigError, Problem, SourceError, reading
from medseg.files import read_text
from medseg.io.folders import stem
from medseg.table import LARGEST

SEPARATORS = ",;\t|"

# What columns may be called, the first that is there before the others; in any case, with or without "_path".
NAMES = {
    "case_id": ("case_id", "caseid", "case", "case_name", "id", "scan_id", "name"),
    "label": (
        "label", "labels", "mask", "masks", "seg", "segmentation", "gt", "ground_truth", "groundtruth", "annotation",
        "label_map", "labelmap", "lbl",
    ),
    "group": (
        "group", "patient_id", "patientid", "patient", "subject_id", "subjectid", "subject", "participant_id",
        "participant", "pid",
    ),
    "annotated": ("annotated", "annotated_labels"),
    "objects": ("objects", "object_map", "instances", "instance_map"),
}  # fmt: skip
IMAGE = re.compile(r"(?:images?|img|volume|scan)(?:_(.+))?", re.IGNORECASE)
SPACING = re.compile(r"spacing(?:_[xyz])?")
CHANNELS = re.compile(r"t1\w{0,3}|t2\w?|t2_?flair|flair|ct|cta|pet|pt|mri?|dwi|adc|pd|swi|cbct|us", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """Which column of a table says what."""

    images: Mapping[str, str]  # the channel by column
    others: Mapping[str, str]  # the column by what it says: "case_id", "label", "objects", "group", …
    unused: Sequence[str]

    def cell(self, row: Mapping[str, str | None], role: str) -> str:
        """Returns what a row says; empty where it says nothing."""
        return (row.get(self.others.get(role, "")) or "").strip()


def cases_csv(listing: Listing) -> CaseListDraft | None:
    """Reads cases.csv, or the table that was given; paths are relative to it.

    Labels are named by a dataset.json beside it, where there is one.
    """
    path = listing.path / "cases.csv" if listing.path.is_dir() else listing.path
    if not path.is_file():
        return None
    columns, rows = _table(path)
    beside = read_dataset_json(path.parent)
    labels, notes = label_names({} if "format" in beside else beside, path.parent / "dataset.json")
    draft = CaseListDraft(f"table {path.name}", labels=labels, notes=notes, is_whole=False)
    draft.groups_given = "group" in columns.others
    draft.notes += _notes(columns, path)
    keys = _keys(columns, rows)
    for number, (row, key) in enumerate(zip(rows, keys, strict=True), start=2):
        images = {channel: row[name] or "" for name, channel in columns.images.items() if (row[name] or "").strip()}
        label = columns.cell(row, "label")
        if None in row:  # more cells than columns
            message = f'{path}: row {number} has more cells than there are columns; put " around paths that hold commas'
            draft.problems.append(Problem(key, path, f"{message}; left out"))
        elif images or label:
            case = add_listed(draft, path.parent, {c: image.strip() for c, image in images.items()}, label or None, key)
            if case:
                add_objects(draft, case, path.parent, columns.cell(row, "objects"))
                case.group = columns.cell(row, "group")
                case.annotated = annotated_labels(columns.cell(row, "annotated"), path)
                try:
                    case.spacing = listed_spacing(row, path)
                except ConfigError as error:
                    draft.problems.append(Problem(case.name, case.path, f"{error}; case left out"))
                    draft.cases.pop(case.key, None)
    used = {channel for case in draft.cases.values() for channel in case.images}
    draft.channels = tuple(channel for channel in columns.images.values() if channel in used and channel)
    return draft


def _table(path: Path) -> tuple[Columns, list[dict[str, str | None]]]:
    """Returns the columns and the rows of a table.

    Raises:
        SourceError: It is no table, or has no column of images.
    """
    advice = "save it as CSV in UTF-8"
    with reading(path, "a table", advice):
        text = read_text(path, LARGEST)
    header = text.partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)
    with reading(path, "a table", advice):
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        rows = list(reader)
    columns = _columns(path, reader.fieldnames)
    if not columns.images:
        raise SourceError(f"{path}: has no column 'image' (or image_<channel>), only: {', '.join(reader.fieldnames)}")
    return columns, rows


def _columns(path: Path, names: Sequence[str]) -> Columns:
    twice = [name for name, n in Counter(names).items() if n > 1 and name]
    if twice:
        raise SourceError(f"{path}: has several columns '{twice[0]}'; give each a name of its own")
    plain = {name: re.sub(r"_(?:path|file)$", "", re.sub(r"[\s\-.]+", "_", name.lower())) for name in names}
    others = {}
    for role, synonyms in NAMES.items():
        found = [name for synonym in synonyms for name in names if plain[name] == synonym]
        if role == "label" and len(found) > 1:
            raise SourceError(f"{path}: has several columns of label maps, {', '.join(found)}; keep one")
        if found:
            others[role] = found[0]
    images: dict[str, str] = {}
    for name in names:
        match = IMAGE.fullmatch(plain[name])
        if match and name not in others.values():
            images[name] = (
                name[len(name) - len(match[1]) :] if match[1] and name.lower().endswith(match[1]) else match[1] or ""
            )
        elif CHANNELS.fullmatch(plain[name]):
            images[name] = name
    if len(images) > 1:
        images = {name: channel or name for name, channel in images.items()}
    used = {*images, *others.values(), *(name for name in names if SPACING.fullmatch(name))}
    unused = [name for name in names if name and name not in used]
    return Columns(images, others, unused)


def _notes(columns: Columns, path: Path) -> list[str]:
    """Says which columns are taken by another name than their own, and which are not taken."""
    taken = [f"'{name}' as {role}" for role, name in columns.others.items() if name.lower() != role]
    notes = [f"{path.name}: taken are {', '.join(taken)}"] if taken else []
    if columns.unused:
        known = "case_id, image or image_<channel>, label, objects, group, annotated, spacing"
        notes.append(f"{path.name}: columns that are not used: {', '.join(columns.unused)}; known are {known}")
    return notes


def _keys(columns: Columns, rows: Sequence[Mapping[str, str | None]]) -> list[str]:
    """Returns what each case is called: as the table says; else by its file, or by its path where names of files
    recur."""
    paths = [
        columns.cell(row, "label") or next(((row[name] or "").strip() for name in columns.images if row[name]), "case")
        for row in rows
    ]
    stems = Counter(stem(Path(path)) for path in paths)
    keys = []
    for row, path in zip(rows, paths, strict=True):
        place = Path(path)
        name = stem(place)
        by_path = name if stems[name] == 1 else (place.parent / name).as_posix().lstrip("./")
        keys.append(columns.cell(row, "case_id") or by_path)
    return keys
