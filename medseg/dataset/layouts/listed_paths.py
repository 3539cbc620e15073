"""Cases whose files are listed by path, in a dataset.json or a table."""

import re
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path, PureWindowsPath
from typing import Any
from unicodedata import normalize

from medseg.dataset.dataset_json import channel_names, channel_note, label_names, training_note
from medseg.dataset.layouts.case_list_draft import CaseListDraft, FoundCase
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.spacing import checked_spacing
from medseg.errors import Problem, SourceError, printable
from medseg.io.discover import source_of
from medseg.io.folders import stem
from medseg.io.source import ImageSource
from medseg.progress import counted
from medseg.volume import Spacing3


def decathlon(listing: Listing) -> CaseListDraft | None:
    """Reads a dataset.json with a list of training cases; nnU-Net 1 writes it too, without the _0000 of its files."""
    content = listing.content
    if not isinstance(content.get("training"), list):
        return None
    path = listing.path / "dataset.json"
    labels, notes = label_names(content, path)
    draft = CaseListDraft("Medical Segmentation Decathlon (dataset.json)", channel_names(content), labels, notes=notes)
    draft.notes += [*channel_note(content), *training_note(content, len(content["training"]))]
    validation = _entries(content, "validation", path)
    for entry in [*_entries(content, "training", path), *validation]:
        case = add_listed(draft, listing.path, entry["image"], entry.get("label"))
        if case:
            add_objects(draft, case, listing.path, entry.get("objects"))
            case.annotated = annotated_labels(entry.get("annotated"), path)
    if validation:
        draft.notes.append(f"'validation' is taken too, and split anew: {counted(len(validation), 'case')}")
    testing = _entries(content, "test", path)
    for entry in testing:
        case = add_listed(draft, listing.path, entry["image"], None)
        if case:
            case.unlabelled_as = "test image"
    if any(entry.get("label") and _is_there(listing.path / entry["label"]) for entry in testing):
        draft.notes.append("'test' has label maps, too: they are not trained on")
    return draft


def _entries(content: Mapping[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    """Returns the entries of a list in dataset.json; a path alone is a test image.

    Raises:
        SourceError: The list, or an entry, is wrong.
    """
    given = content.get(name) or []
    if not isinstance(given, list):
        raise SourceError(f"{path}: '{name}' has to be a list of images with their labels, not {given!r}")
    entries = [{"image": each} if isinstance(each, str) and name == "test" else each for each in given]
    for entry in entries:
        image = entry.get("image") if isinstance(entry, dict) else None
        label = entry.get("label") if isinstance(entry, dict) else None
        several = isinstance(image, list) and image and all(isinstance(each, str) for each in image)
        if not (isinstance(image, str) or several) or not isinstance(label, str | None):
            raise SourceError(f"{path}: entries of '{name}' need 'image' and 'label', not {entry!r}")
    return entries


def add_listed(
    draft: CaseListDraft,
    folder: Path,
    images: str | Sequence[str] | Mapping[str, str],
    label: str | None,
    key: str = "",
) -> FoundCase | None:
    """Adds the case of some images and perhaps a label.

    Args:
        draft: What it is added to.
        folder: Paths are relative to it.
        images: One, several, or by channel.
        label: None: the case has none.
        key: Without one, the case is named by its label's or first image's file.

    Returns:
        None, and a problem in the draft, when a file is missing or no image.
    """
    by_channel = _by_channel(images)
    key = key or stem(Path(label or next(iter(by_channel.values()), "case")))
    try:
        sources: dict[str, ImageSource] = {}
        for channel, image in by_channel.items():
            sources |= _sources_of(_on_disk(folder / image), channel)
        label_source = source_of(_on_disk(folder / label)) if label else None
    except SourceError as error:
        draft.problems.append(Problem(FoundCase(key).name, folder / (label or key), f"{error}; case left out"))
        return None
    case = draft.cases.setdefault(key, FoundCase(key))
    for channel, source in sources.items():
        draft.add_image(key, source, channel)
    if label_source:
        draft.add_label(key, label_source)
    return case


def add_objects(draft: CaseListDraft, case: FoundCase, folder: Path, objects: object) -> None:
    """Adds an object map to a case; where there is no such file, the case is left out, with a problem.

    Args:
        draft: That has the case.
        case: The case.
        folder: The path is relative to it.
        objects: The path; nothing is added where it is empty.
    """
    if not objects:
        return
    try:
        case.objects = source_of(_on_disk(folder / str(objects)))
    except SourceError as error:
        draft.problems.append(Problem(case.name, folder / str(objects), f"{error}; case left out"))
        del draft.cases[case.key]


def annotated_labels(given: object, path: Path) -> tuple[str, ...] | None:
    """Returns the names of labels that a case, listed in ``path``, says were annotated.

    They are a list, or names separated by ; or |.

    Returns:
        None where it says nothing: all were.

    Raises:
        SourceError: It is something else.
    """
    if given in (None, ""):
        return None
    names = re.split("[;|]", given) if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise SourceError(f"{path}: 'annotated' has to be a list of names of labels, not {given!r}")
    return tuple(name.strip() for name in names)


def listed_spacing(row: Mapping[str, str | None], path: Path) -> Spacing3 | None:
    """Returns what a row of the table ``path`` says of the voxels of its case, in mm.

    That is three numbers in the column ``spacing``, or one in each of ``spacing_x``, ``spacing_y`` and ``spacing_z``.

    Returns:
        None where it says nothing.

    Raises:
        ConfigError: It is no spacing.
    """
    whole = (row.get("spacing") or "").strip()
    parts = [(row.get(f"spacing_{axis}") or "").strip() for axis in "xyz"]
    if whole:
        return checked_spacing(whole, f"{path}: spacing")
    return checked_spacing(parts, f"{path}: spacing_x, spacing_y, spacing_z") if any(parts) else None


def _is_there(path: Path) -> bool:
    try:
        return _on_disk(path).exists()
    except SourceError:
        return False


def _exists(path: Path) -> bool:
    """Returns whether there is such a path.

    Raises:
        SourceError: No file can have this name.
    """
    try:
        return path.exists()
    except OSError as error:
        raise SourceError(f"{printable(str(path))}: is listed, and cannot be a file ({error.strerror})") from error


def _on_disk(path: Path) -> Path:
    """Returns the path as it is spelled on disk.

    That is composed or decomposed (NFC, NFD), in capitals or not, with slashes for backslashes; as it is where there is
    no such file, or are several.
    """
    if _exists(path) or path == path.parent:
        return path
    if "\\" in path.name:
        return _on_disk(path.parent / PureWindowsPath(path.name).as_posix())
    parent = _on_disk(path.parent)
    entries = list(parent.iterdir()) if parent.is_dir() else []
    for spelled in (_composed, lambda name: _composed(name).casefold()):
        alike = [entry for entry in entries if spelled(entry.name) == spelled(path.name)]
        if len(alike) == 1:
            return alike[0]
    return parent / path.name


def _composed(name: str) -> str:
    return normalize("NFC", name)


def _by_channel(images: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(images, str):
        return {"": images}
    if isinstance(images, Mapping):
        return dict(images)
    return {"": images[0]} if len(images) == 1 else {f"{i:04d}": image for i, image in enumerate(images)}


def _sources_of(path: Path, channel: str) -> dict[str, ImageSource]:
    """Returns the listed file; or, as nnU-Net 1 lists them, its channels: ``a.nii.gz`` for ``a_0000.nii.gz`` and on."""
    if path.exists():
        return {channel: source_of(path)}
    name = stem(path)
    ending = path.name[len(name) :]
    files = sorted(path.parent.glob(f"{escape(name)}_[0-9][0-9][0-9][0-9]{ending}"))
    if not files:
        raise SourceError(f"{path}: is listed, but there is no such file")
    return {stem(file)[-4:]: source_of(file) for file in files}
